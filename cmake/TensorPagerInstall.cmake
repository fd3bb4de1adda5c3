# The installed package: find_package(tensor_pager 0.1) defines tensor_pager::pager, ::kernels and ::loaders.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tensor_pager)

# What a consumer has to find follows from what the layers' link interfaces name: for static libraries that includes
# their private dependencies, for shared ones only the public ones.
set(TENSOR_PAGER_DEPENDENCIES "")
get_property(layers GLOBAL PROPERTY TENSOR_PAGER_LAYERS)
foreach(layer IN LISTS layers)
  get_target_property(interface ${layer} INTERFACE_LINK_LIBRARIES)
  string(REGEX MATCHALL "[A-Za-z0-9_]+::" namespaces "${interface}")
  foreach(namespace IN LISTS namespaces)
    string(REPLACE "::" "" package ${namespace})
    string(REGEX REPLACE "^CUDA$" "CUDAToolkit" package ${package})
    if(NOT package STREQUAL "tensor_pager")
      list(APPEND TENSOR_PAGER_DEPENDENCIES ${package})
    endif()
  endforeach()
endforeach()
list(REMOVE_DUPLICATES TENSOR_PAGER_DEPENDENCIES)

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/tensor_pagerConfig.cmake.in
  ${PROJECT_BINARY_DIR}/tensor_pagerConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tensor_pagerConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT tensor_pager NAMESPACE tensor_pager:: FILE tensor_pagerTargets.cmake DESTINATION ${package_dir})
install(FILES
  ${PROJECT_BINARY_DIR}/tensor_pagerConfig.cmake
  ${PROJECT_BINARY_DIR}/tensor_pagerConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindHWLOC.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindPCRE2.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindUTF8PROC.cmake
  DESTINATION ${package_dir})
