# SPDX-License-Identifier: Apache-2.0
set(TENSOR_PAGER_FALSE_WARNINGS "")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  set(TENSOR_PAGER_FALSE_WARNINGS -Wno-restrict)  # at -O3 it takes "text" + std::string for an overlap (bug 105651)
endif()

# tensor_pager_warnings(TARGET): the warnings that all of our own code compiles with.
function(tensor_pager_warnings target)
  set(warnings -Wall -Wextra -Wconversion -Wshadow)
  if(TENSOR_PAGER_WERROR)
    list(APPEND warnings -Werror)
  endif()
  list(APPEND warnings ${TENSOR_PAGER_FALSE_WARNINGS})
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${warnings}>)
endfunction()

# tensor_pager_program(TARGET): a program for users, installed with its completions and its manual page, which it prints
# itself.
function(tensor_pager_program target)
  tensor_pager_warnings(${target})
  if(NOT TENSOR_PAGER_INSTALL)
    return()
  endif()
  install(TARGETS ${target} COMPONENT programs)
  set_property(GLOBAL APPEND PROPERTY TENSOR_PAGER_PROGRAMS ${target})
  if(NOT CMAKE_CROSSCOMPILING)
    install(CODE "set(program \"$<TARGET_FILE:${target}>\")
set(data \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}\")
set(bash \"\${data}/bash-completion/completions/${target}\")
set(zsh \"\${data}/zsh/${TENSOR_PAGER_ZSH_FOLDER}/_${target}\")
set(man \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_MANDIR}/man1/${target}.1\")" COMPONENT programs)
    install(SCRIPT ${PROJECT_SOURCE_DIR}/cmake/InstallTexts.cmake COMPONENT programs)
  endif()
endfunction()

# tensor_pager_development(LAYER VARIABLE): the install component of what compilers need of a layer.
function(tensor_pager_development layer variable)
  if(layer STREQUAL "pager")
    set(${variable} pager_development PARENT_SCOPE)
  else()
    set(${variable} development PARENT_SCOPE)
  endif()
endfunction()

# tensor_pager_library(LAYER SOURCES...): the library of one layer (pager, kernels, loaders), with its alias
# tensor_pager::LAYER, its public headers in LAYER/include and its place in the installed package. What programs need of it
# is the install component LAYER; what compilers need is pager_development, or development for the layers beside it.
#
# Static by default, shared with BUILD_SHARED_LIBS=ON. A shared library exports what its public headers mark with
# TENSOR_PAGER_EXPORT: a program may load plugins that have versions of the insides, or of third-party static libraries,
# of their own. In a static one nothing is marked, and a plugin that links it exports none of it.
function(tensor_pager_library layer)
  set(target tensor_pager_${layer})
  add_library(${target} ${ARGN})
  add_library(tensor_pager::${layer} ALIAS ${target})
  set_target_properties(${target} PROPERTIES
    EXPORT_NAME ${layer}
    CXX_EXTENSIONS OFF
    POSITION_INDEPENDENT_CODE ON
    DEFINE_SYMBOL ""  # the macro means the same to the library and to its users
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    INSTALL_RPATH "$ORIGIN")  # a layer finds the layers below it beside itself
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(${target} PUBLIC
    "$<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>"
    "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/tensor_pager>")
  if(BUILD_SHARED_LIBS)
    target_compile_definitions(${target} PUBLIC TENSOR_PAGER_SHARED)
    set(exports ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/tensor_pager.map)
    target_link_options(${target} PRIVATE -Wl,--version-script,${exports})
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${exports})
  endif()
  tensor_pager_warnings(${target})
  set_property(GLOBAL APPEND PROPERTY TENSOR_PAGER_LAYERS ${layer})
  if(TENSOR_PAGER_INSTALL)
    tensor_pager_development(${layer} development)
    install(TARGETS ${target} EXPORT tensor_pager_${layer}
      LIBRARY COMPONENT ${layer} NAMELINK_COMPONENT ${development}
      ARCHIVE COMPONENT ${development})
    install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tensor_pager COMPONENT ${development})
  endif()
endfunction()
