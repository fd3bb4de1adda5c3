# SPDX-License-Identifier: Apache-2.0
# Run by cmake --install: writes what ${program} prints as its completions and its manual page to the files ${bash},
# ${zsh} and ${man}.
set(bash_option --completion bash)
set(zsh_option --completion zsh)
set(man_option --man-page)
foreach(text IN ITEMS bash zsh man)
  cmake_path(GET ${text} PARENT_PATH folder)
  file(MAKE_DIRECTORY "${folder}")
  execute_process(COMMAND "${program}" ${${text}_option} OUTPUT_FILE "${${text}}" COMMAND_ERROR_IS_FATAL ANY)
  # As files that are copied have it, whatever the umask.
  file(CHMOD "${${text}}" FILE_PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
  message(STATUS "Installing: ${${text}}")
  list(APPEND CMAKE_INSTALL_MANIFEST_FILES "${${text}}")
endforeach()
