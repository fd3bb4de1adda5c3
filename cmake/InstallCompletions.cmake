# SPDX-License-Identifier: Apache-2.0
# Run by cmake --install: writes what ${program} prints as its completions to the files ${bash} and ${zsh}.
foreach(shell IN ITEMS bash zsh)
  cmake_path(GET ${shell} PARENT_PATH folder)
  file(MAKE_DIRECTORY "${folder}")
  execute_process(COMMAND "${program}" --completion ${shell} OUTPUT_FILE "${${shell}}" COMMAND_ERROR_IS_FATAL ANY)
  message(STATUS "Installing: ${${shell}}")
  list(APPEND CMAKE_INSTALL_MANIFEST_FILES "${${shell}}")
endforeach()
