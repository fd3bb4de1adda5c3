include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tensor_pager)
install(EXPORT tensor_pager NAMESPACE tensor_pager:: FILE tensor_pagerTargets.cmake DESTINATION ${package_dir})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/tensor_pagerConfig.cmake.in
  ${PROJECT_BINARY_DIR}/tensor_pagerConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tensor_pagerConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tensor_pagerConfig.cmake ${PROJECT_BINARY_DIR}/tensor_pagerConfigVersion.cmake
  DESTINATION ${package_dir})
