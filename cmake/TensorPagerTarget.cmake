# tensor_pager_warnings(TARGET): the warnings that all of our own code compiles with.
function(tensor_pager_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow)
  if(TENSOR_PAGER_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()

# tensor_pager_library(LAYER SOURCES...): the library of one layer (pager, kernels, loaders), with its alias
# tensor_pager::LAYER, its public headers in LAYER/include and its place in the installed package.
function(tensor_pager_library layer)
  set(target tensor_pager_${layer})
  add_library(${target} ${ARGN})
  add_library(tensor_pager::${layer} ALIAS ${target})
  set_target_properties(${target} PROPERTIES
    EXPORT_NAME ${layer} CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/tensor_pager>)
  tensor_pager_warnings(${target})
  if(TENSOR_PAGER_INSTALL)
    install(TARGETS ${target} EXPORT tensor_pager)
    install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tensor_pager)
  endif()
endfunction()
