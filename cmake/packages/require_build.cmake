# SPDX-License-Identifier: Apache-2.0
# Run by cpack before anything else: it installs what is there, and Ninja's builds are not made first.
file(STRINGS "${CPACK_TENSOR_PAGER_BINARY}/packaged_files.txt" files)
foreach(file IN LISTS files)
  if(NOT EXISTS "${file}")
    message(FATAL_ERROR "${file} is not built; first: cmake --build \"${CPACK_TENSOR_PAGER_BINARY}\"")
  endif()
endforeach()
