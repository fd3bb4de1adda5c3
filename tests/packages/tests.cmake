# SPDX-License-Identifier: Apache-2.0
# Debian packages of this build, made and looked into; tools/check_packages.sh installs those that are released.
find_program(DPKG_DEB dpkg-deb)
find_program(DPKG_SHLIBDEPS dpkg-shlibdeps)
if(NOT PROJECT_IS_TOP_LEVEL OR NOT DPKG_DEB OR NOT DPKG_SHLIBDEPS)
  return()
endif()
# Others are not what is packed: shared libraries have search paths unless the preset "packages" leaves them out.
if(BUILD_SHARED_LIBS OR NOT CMAKE_BUILD_TYPE STREQUAL "Release")
  return()
endif()
set(packages_dir ${PROJECT_BINARY_DIR}/packages)
add_test(NAME packages.clean COMMAND ${CMAKE_COMMAND} -E rm -rf ${packages_dir})
# Compressed quickly, and somewhere else than where it was built.
add_test(NAME packages.make COMMAND ${CMAKE_CPACK_COMMAND} -G DEB --config ${PROJECT_BINARY_DIR}/CPackConfig.cmake
  -B ${packages_dir} -D CPACK_DEBIAN_COMPRESSION_TYPE=gzip)
add_test(NAME packages.contents COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/packages/check_contents.sh ${packages_dir})
set_tests_properties(packages.clean PROPERTIES FIXTURES_SETUP packages_clean)
set_tests_properties(packages.make PROPERTIES FIXTURES_REQUIRED packages_clean FIXTURES_SETUP packages TIMEOUT 300)
set_tests_properties(packages.contents PROPERTIES FIXTURES_REQUIRED packages TIMEOUT 120)
