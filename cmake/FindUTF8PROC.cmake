# SPDX-License-Identifier: Apache-2.0
# Unicode normalisation. Defines UTF8PROC_FOUND, UTF8PROC_VERSION and the imported target UTF8PROC::utf8proc.
# utf8proc installs a pkg-config file, but on Debian and Ubuntu no CMake package.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(PC_UTF8PROC QUIET libutf8proc)
endif()
find_path(UTF8PROC_INCLUDE_DIR utf8proc.h HINTS ${PC_UTF8PROC_INCLUDE_DIRS})
find_library(UTF8PROC_LIBRARY utf8proc HINTS ${PC_UTF8PROC_LIBRARY_DIRS})
mark_as_advanced(UTF8PROC_INCLUDE_DIR UTF8PROC_LIBRARY)

if(UTF8PROC_INCLUDE_DIR)
  file(STRINGS "${UTF8PROC_INCLUDE_DIR}/utf8proc.h" UTF8PROC_VERSION REGEX "^#define UTF8PROC_VERSION_(MAJOR|MINOR) ")
  string(REGEX REPLACE "[^0-9]*8PROC_VERSION_MAJOR +([0-9]+)[^0-9]*8PROC_VERSION_MINOR +([0-9]+).*" "\\1.\\2"
    UTF8PROC_VERSION "${UTF8PROC_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(UTF8PROC
  REQUIRED_VARS UTF8PROC_LIBRARY UTF8PROC_INCLUDE_DIR
  VERSION_VAR UTF8PROC_VERSION
  REASON_FAILURE_MESSAGE "install libutf8proc-dev")

if(UTF8PROC_FOUND AND NOT TARGET UTF8PROC::utf8proc)
  add_library(UTF8PROC::utf8proc UNKNOWN IMPORTED)
  set_target_properties(UTF8PROC::utf8proc PROPERTIES
    IMPORTED_LOCATION "${UTF8PROC_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${UTF8PROC_INCLUDE_DIR}")
endif()
