# SPDX-License-Identifier: Apache-2.0
# Portable Hardware Locality. Defines HWLOC_FOUND, HWLOC_VERSION and the imported target HWLOC::hwloc.
# hwloc installs a pkg-config file, but no CMake package.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(PC_HWLOC QUIET hwloc)
endif()
find_path(HWLOC_INCLUDE_DIR hwloc.h HINTS ${PC_HWLOC_INCLUDE_DIRS})
find_library(HWLOC_LIBRARY hwloc HINTS ${PC_HWLOC_LIBRARY_DIRS})
find_file(HWLOC_CONFIG_HEADER hwloc/autogen/config.h HINTS ${PC_HWLOC_INCLUDE_DIRS})  # apart from hwloc.h on Debian
mark_as_advanced(HWLOC_INCLUDE_DIR HWLOC_LIBRARY HWLOC_CONFIG_HEADER)

if(HWLOC_CONFIG_HEADER)
  file(STRINGS "${HWLOC_CONFIG_HEADER}" HWLOC_VERSION REGEX "^#define HWLOC_VERSION +\"")
  string(REGEX REPLACE ".*\"([^\"]*)\".*" "\\1" HWLOC_VERSION "${HWLOC_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(HWLOC
  REQUIRED_VARS HWLOC_LIBRARY HWLOC_INCLUDE_DIR
  VERSION_VAR HWLOC_VERSION
  REASON_FAILURE_MESSAGE "install libhwloc-dev")

if(HWLOC_FOUND AND NOT TARGET HWLOC::hwloc)
  add_library(HWLOC::hwloc UNKNOWN IMPORTED)
  set_target_properties(HWLOC::hwloc PROPERTIES
    IMPORTED_LOCATION "${HWLOC_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${HWLOC_INCLUDE_DIR}")
endif()
