# SPDX-License-Identifier: Apache-2.0
# Checksums. Defines XXHASH_FOUND, XXHASH_VERSION and the imported target XXHASH::xxhash.
# xxHash installs a pkg-config file, but on Debian and Ubuntu no CMake package.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(PC_XXHASH QUIET libxxhash)
endif()
find_path(XXHASH_INCLUDE_DIR xxhash.h HINTS ${PC_XXHASH_INCLUDE_DIRS})
find_library(XXHASH_LIBRARY xxhash HINTS ${PC_XXHASH_LIBRARY_DIRS})
mark_as_advanced(XXHASH_INCLUDE_DIR XXHASH_LIBRARY)

if(XXHASH_INCLUDE_DIR)
  file(STRINGS "${XXHASH_INCLUDE_DIR}/xxhash.h" XXHASH_VERSION REGEX "^#define XXH_VERSION_(MAJOR|MINOR) ")
  string(REGEX REPLACE "[^0-9]*VERSION_MAJOR +([0-9]+)[^0-9]*VERSION_MINOR +([0-9]+).*" "\\1.\\2"
    XXHASH_VERSION "${XXHASH_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(XXHASH
  REQUIRED_VARS XXHASH_LIBRARY XXHASH_INCLUDE_DIR
  VERSION_VAR XXHASH_VERSION
  REASON_FAILURE_MESSAGE "install libxxhash-dev")

if(XXHASH_FOUND AND NOT TARGET XXHASH::xxhash)
  add_library(XXHASH::xxhash UNKNOWN IMPORTED)
  set_target_properties(XXHASH::xxhash PROPERTIES
    IMPORTED_LOCATION "${XXHASH_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${XXHASH_INCLUDE_DIR}")
endif()
