# SPDX-License-Identifier: Apache-2.0
# What embedders find once it is installed, each layer by itself:
#   find_package(tensor_pager 0.1 [COMPONENTS pager kernels loaders])   defines tensor_pager::pager, ::kernels, ::loaders
#   pkg-config tensor_pager_pager, _kernels, _loaders                   and tensor_pager, which is all of them
# What a layer does not need is not looked for.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tensor_pager)
set(pkgconfig_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# What pkg-config calls the CMake packages that layers need.
set(pkgconfig_of_TBB tbb)
set(pkgconfig_of_fmt fmt)
set(pkgconfig_of_HWLOC hwloc)
set(pkgconfig_of_PCRE2 libpcre2-8)
set(pkgconfig_of_UTF8PROC libutf8proc)

# tensor_pager_needs(LAYER): sets needed_layers and needed_packages (CMake's names) in the caller; the packages are also what
# TENSOR_PAGER_LAYER_PACKAGES, a global property, says of it.
#
# What a consumer has to find follows from what the layer's link interface names: for static libraries that includes their
# private dependencies, for shared ones only the public ones.
function(tensor_pager_needs layer)
  set(needed_layers "")
  set(needed_packages "")
  get_target_property(interface tensor_pager_${layer} INTERFACE_LINK_LIBRARIES)
  string(REGEX MATCHALL "[A-Za-z0-9_]+::[A-Za-z0-9_]+" targets "${interface}")
  foreach(target IN LISTS targets)
    string(REGEX REPLACE "::.*" "" package ${target})
    string(REGEX REPLACE "^CUDA$" "CUDAToolkit" package ${package})
    if(package STREQUAL "tensor_pager")
      string(REGEX REPLACE ".*::" "" needed ${target})
      list(APPEND needed_layers ${needed})
    else()
      list(APPEND needed_packages ${package})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES needed_packages)
  set_property(GLOBAL PROPERTY TENSOR_PAGER_${layer}_PACKAGES ${needed_packages})
  set(needed_layers "${needed_layers}" PARENT_SCOPE)
  set(needed_packages "${needed_packages}" PARENT_SCOPE)
endfunction()

# tensor_pager_link_flags(LAYER VARIABLE): the linker's flags for what a layer needs and pkg-config does not know.
function(tensor_pager_link_flags layer variable)
  get_target_property(interface tensor_pager_${layer} INTERFACE_LINK_LIBRARIES)
  set(flags "")
  if(interface MATCHES "CUDA::")
    get_target_property(library CUDA::cudart_static IMPORTED_LOCATION)
    cmake_path(GET library PARENT_PATH folder)
    string(APPEND flags " -L\"${folder}\"")
  endif()
  if(interface MATCHES "CUDA::cublasLt")
    string(APPEND flags " -lcublasLt")
  endif()
  if(interface MATCHES "CUDA::cudart_static")
    string(APPEND flags " -lcudart_static -lrt -ldl -lpthread")
  endif()
  if(interface MATCHES "Threads::Threads")
    string(APPEND flags " ${CMAKE_THREAD_LIBS_INIT}")
  endif()
  string(REGEX MATCHALL "LINK_ONLY:[a-z]+>" plain "${interface}")
  list(TRANSFORM plain REPLACE "LINK_ONLY:([a-z]+)>" "-l\\1")
  list(JOIN plain " " plain)
  string(STRIP "${flags} ${plain}" flags)
  set(${variable} "${flags}" PARENT_SCOPE)
endfunction()

# tensor_pager_pkgconfig(LAYER): installs the layer's pkg-config file, which follows the tree that it is in, wherever that
# is moved.
function(tensor_pager_pkgconfig layer)
  set(name tensor_pager_${layer})
  set(title "tensor-pager: ${layer}")
  set(requires "")
  foreach(needed IN LISTS needed_layers)
    list(APPEND requires "tensor_pager_${needed} = ${PROJECT_VERSION}")
  endforeach()
  foreach(package IN LISTS needed_packages)
    if(DEFINED pkgconfig_of_${package})
      list(APPEND requires ${pkgconfig_of_${package}})
    elseif(NOT package MATCHES "^(Threads|CUDAToolkit)$")
      message(FATAL_ERROR "pkgconfig_of_${package} is not set: what is it called by pkg-config?")
    endif()
  endforeach()
  list(JOIN requires ", " requires)
  tensor_pager_link_flags(${layer} flags)
  # Not in quotes: what pkg-config puts for pcfiledir has its blanks escaped.
  string(STRIP "-L\${libdir} -l${name} ${flags}" libs)
  get_target_property(definitions tensor_pager_${layer} INTERFACE_COMPILE_DEFINITIONS)
  set(cflags "-I\${includedir}/tensor_pager")
  if(definitions)
    list(REMOVE_DUPLICATES definitions)
    list(TRANSFORM definitions PREPEND "-D")
    list(JOIN definitions " " definitions)
    string(APPEND cflags " ${definitions}")
  endif()
  if(TENSOR_PAGER_HAS_CUDA AND layer STREQUAL "kernels")  # its headers for CUDA include the runtime's
    get_target_property(folders CUDA::cudart_static INTERFACE_INCLUDE_DIRECTORIES)
    foreach(folder IN LISTS folders)
      string(APPEND cflags " -I\"${folder}\"")
    endforeach()
  endif()
  tensor_pager_development(${layer} component)
  tensor_pager_pkgconfig_file(${name} ${component})
endfunction()

# tensor_pager_pkgconfig_file(NAME COMPONENT): with title, requires, libs and cflags of the caller.
function(tensor_pager_pkgconfig_file name component)
  set(prefix "${CMAKE_INSTALL_PREFIX}")
  if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    file(RELATIVE_PATH up "/${pkgconfig_dir}" "/")
    string(REGEX REPLACE "/$" "" up "${up}")
    set(prefix "\${pcfiledir}/${up}")
  endif()
  foreach(kind IN ITEMS LIB INCLUDE)
    string(TOLOWER ${kind} folder)
    if(IS_ABSOLUTE "${CMAKE_INSTALL_${kind}DIR}")
      set(${folder}dir "${CMAKE_INSTALL_${kind}DIR}")
    else()
      set(${folder}dir "\${prefix}/${CMAKE_INSTALL_${kind}DIR}")
    endif()
  endforeach()
  configure_file(${CMAKE_CURRENT_FUNCTION_LIST_DIR}/tensor_pager.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${pkgconfig_dir} COMPONENT ${component})
endfunction()

get_property(TENSOR_PAGER_INSTALLED GLOBAL PROPERTY TENSOR_PAGER_LAYERS)
set(TENSOR_PAGER_DEPENDENCIES "")
foreach(layer IN LISTS TENSOR_PAGER_INSTALLED)
  tensor_pager_needs(${layer})
  tensor_pager_pkgconfig(${layer})
  list(JOIN needed_packages " " packages)
  string(APPEND TENSOR_PAGER_DEPENDENCIES "set(tensor_pager_${layer}_needs ${packages})\n")
  tensor_pager_development(${layer} component)
  install(EXPORT tensor_pager_${layer} NAMESPACE tensor_pager:: FILE tensor_pager_${layer}.cmake
    DESTINATION ${package_dir} COMPONENT ${component})
endforeach()

set(title "tensor-pager: all of its libraries")
set(cflags "")
set(libs "")
list(TRANSFORM TENSOR_PAGER_INSTALLED REPLACE "(.+)" "tensor_pager_\\1 = ${PROJECT_VERSION}" OUTPUT_VARIABLE requires)
list(JOIN requires ", " requires)
set(component development)
if(TENSOR_PAGER_INSTALLED STREQUAL "pager")
  set(component pager_development)
endif()
tensor_pager_pkgconfig_file(tensor_pager ${component})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/tensor_pagerConfig.cmake.in
  ${PROJECT_BINARY_DIR}/tensor_pagerConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tensor_pagerConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/tensor_pagerConfig.cmake
  ${PROJECT_BINARY_DIR}/tensor_pagerConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindHWLOC.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindPCRE2.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindUTF8PROC.cmake
  DESTINATION ${package_dir} COMPONENT pager_development)
