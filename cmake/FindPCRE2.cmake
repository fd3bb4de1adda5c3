# SPDX-License-Identifier: Apache-2.0
# Perl-compatible regular expressions, 8-bit code units. Defines PCRE2_FOUND, PCRE2_VERSION and the imported target
# PCRE2::8BIT, named as in PCRE2's own CMake package, which Debian and Ubuntu do not ship.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(PC_PCRE2 QUIET libpcre2-8)
endif()
find_path(PCRE2_INCLUDE_DIR pcre2.h HINTS ${PC_PCRE2_INCLUDE_DIRS})
find_library(PCRE2_8BIT_LIBRARY pcre2-8 HINTS ${PC_PCRE2_LIBRARY_DIRS})
mark_as_advanced(PCRE2_INCLUDE_DIR PCRE2_8BIT_LIBRARY)

if(PCRE2_INCLUDE_DIR)
  file(STRINGS "${PCRE2_INCLUDE_DIR}/pcre2.h" PCRE2_VERSION REGEX "^#define PCRE2_(MAJOR|MINOR) ")
  string(REGEX REPLACE "[^0-9]*2_MAJOR +([0-9]+)[^0-9]*2_MINOR +([0-9]+).*" "\\1.\\2" PCRE2_VERSION "${PCRE2_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(PCRE2
  REQUIRED_VARS PCRE2_8BIT_LIBRARY PCRE2_INCLUDE_DIR
  VERSION_VAR PCRE2_VERSION
  REASON_FAILURE_MESSAGE "install libpcre2-dev")

if(PCRE2_FOUND AND NOT TARGET PCRE2::8BIT)
  add_library(PCRE2::8BIT UNKNOWN IMPORTED)
  set_target_properties(PCRE2::8BIT PROPERTIES
    IMPORTED_LOCATION "${PCRE2_8BIT_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${PCRE2_INCLUDE_DIR}")
  if(PCRE2_8BIT_LIBRARY MATCHES "\\.a$")
    set_target_properties(PCRE2::8BIT PROPERTIES INTERFACE_COMPILE_DEFINITIONS PCRE2_STATIC)
  endif()
endif()
