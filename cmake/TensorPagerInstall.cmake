# SPDX-License-Identifier: Apache-2.0
# The installed package: find_package(tensor_pager 0.1 [COMPONENTS pager kernels loaders]) defines tensor_pager::pager,
# ::kernels and ::loaders; what a component does not need is not looked for.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tensor_pager)

# What a consumer has to find follows from what the layers' link interfaces name: for static libraries that includes
# their private dependencies, for shared ones only the public ones.
get_property(TENSOR_PAGER_INSTALLED GLOBAL PROPERTY TENSOR_PAGER_LAYERS)
set(TENSOR_PAGER_DEPENDENCIES "")
foreach(layer IN LISTS TENSOR_PAGER_INSTALLED)
  set(packages "")
  get_target_property(interface tensor_pager_${layer} INTERFACE_LINK_LIBRARIES)
  string(REGEX MATCHALL "[A-Za-z0-9_]+::" namespaces "${interface}")
  foreach(namespace IN LISTS namespaces)
    string(REPLACE "::" "" package ${namespace})
    string(REGEX REPLACE "^CUDA$" "CUDAToolkit" package ${package})
    if(NOT package STREQUAL "tensor_pager")
      list(APPEND packages ${package})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES packages)
  list(JOIN packages " " packages)
  string(APPEND TENSOR_PAGER_DEPENDENCIES "set(tensor_pager_${layer}_needs ${packages})\n")
  install(EXPORT tensor_pager_${layer} NAMESPACE tensor_pager:: FILE tensor_pager_${layer}.cmake
    DESTINATION ${package_dir})
endforeach()

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/tensor_pagerConfig.cmake.in
  ${PROJECT_BINARY_DIR}/tensor_pagerConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tensor_pagerConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/tensor_pagerConfig.cmake
  ${PROJECT_BINARY_DIR}/tensor_pagerConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindHWLOC.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindPCRE2.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindUTF8PROC.cmake
  DESTINATION ${package_dir})
