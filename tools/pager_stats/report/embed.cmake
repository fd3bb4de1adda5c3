# SPDX-License-Identifier: Apache-2.0
# Run as a script: writes OUT, a header with the contents of FILES as strings, each named after its file.
#   cmake -DOUT=... -DFILES=a.js|b.css -P embed.cmake
string(REPLACE "|" ";" files "${FILES}")
set(header "#pragma once\n// Made from the files of page/; do not edit.\n#include <string_view>\n\n")
string(APPEND header "namespace tensor_pager::pager_stats::assets {\n")
foreach(file IN LISTS files)
  get_filename_component(name "${file}" NAME)
  string(REPLACE "." "_" name "${name}")
  file(READ "${file}" text)
  if(text MATCHES "\\)asset\"")
    message(FATAL_ERROR "${file} contains the mark that ends it in C++")
  endif()
  string(APPEND header "inline constexpr std::string_view ${name} = R\"asset(${text})asset\";\n")
endforeach()
string(APPEND header "}  // namespace tensor_pager::pager_stats::assets\n")
file(WRITE "${OUT}" "${header}")
