# SPDX-License-Identifier: Apache-2.0
# Line editing. Defines LIBEDIT_FOUND and the imported target LIBEDIT::edit.
# libedit installs a pkg-config file, but no CMake package.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(PC_LIBEDIT QUIET libedit)
endif()
find_path(LIBEDIT_INCLUDE_DIR histedit.h HINTS ${PC_LIBEDIT_INCLUDE_DIRS})
find_library(LIBEDIT_LIBRARY edit HINTS ${PC_LIBEDIT_LIBRARY_DIRS})
mark_as_advanced(LIBEDIT_INCLUDE_DIR LIBEDIT_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LIBEDIT
  REQUIRED_VARS LIBEDIT_LIBRARY LIBEDIT_INCLUDE_DIR
  VERSION_VAR PC_LIBEDIT_VERSION
  REASON_FAILURE_MESSAGE "install libedit-dev")

if(LIBEDIT_FOUND AND NOT TARGET LIBEDIT::edit)
  add_library(LIBEDIT::edit UNKNOWN IMPORTED)
  set_target_properties(LIBEDIT::edit PROPERTIES
    IMPORTED_LOCATION "${LIBEDIT_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${LIBEDIT_INCLUDE_DIR}")
endif()
