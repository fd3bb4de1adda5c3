# SPDX-License-Identifier: Apache-2.0
# cmake -DNM=nm -DFOLDER=folder -P check_exports.cmake: the shared libraries in a folder export symbols of namespace
# tensor_pager (functions, typeinfo and its names, vtables) and no others.
file(GLOB libraries ${FOLDER}/libtensor_pager_*.so)
list(LENGTH libraries count)
if(NOT count EQUAL 3)
  message(FATAL_ERROR "${FOLDER} has ${count} libraries of tensor-pager instead of pager, kernels and loaders.")
endif()
foreach(library IN LISTS libraries)
  execute_process(COMMAND ${NM} --dynamic --defined-only --format=posix ${library}
    OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
  set(foreign ${symbols})
  list(FILTER foreign EXCLUDE REGEX "^_Z(N|NK|TIN|TSN|TVN)12tensor_pager")
  list(LENGTH symbols count)
  if(foreign OR NOT count)
    list(JOIN foreign "\n  " foreign)
    message(FATAL_ERROR "${library} exports ${count} symbols, of which these are not tensor-pager's:\n  ${foreign}")
  endif()
  message(STATUS "${library} exports ${count} symbols")
endforeach()
