# SPDX-License-Identifier: Apache-2.0
# Run by cpack between installing and packing: adds what Debian wants of packages and CPack does not do. Dependencies of
# programs and libraries are found here since CPack has dpkg-shlibdeps pass over libraries that no package is known to have.
if(NOT CPACK_GENERATOR STREQUAL "DEB")
  return()
endif()
cmake_policy(PUSH)
cmake_policy(VERSION 3.25)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")  # each package has its own, which CPack would put below this one
foreach(program IN ITEMS dpkg-shlibdeps gzip)
  string(MAKE_C_IDENTIFIER ${program} variable)
  find_program(${variable} ${program} NO_CACHE)
  if(NOT ${variable})
    message(FATAL_ERROR "There is no ${program}, which packages need; apt-get install dpkg-dev gzip")
  endif()
endforeach()
set(packaging ${CMAKE_CURRENT_LIST_DIR})
set(scratch "${CPACK_TENSOR_PAGER_BINARY}/packaging")
file(REMOVE_RECURSE "${scratch}")
file(MAKE_DIRECTORY "${scratch}/debian")
file(WRITE "${scratch}/debian/control" "")

# run(COMMAND...): its output in `output`.
macro(run)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY "${scratch}" OUTPUT_VARIABLE output ERROR_VARIABLE error
    RESULT_VARIABLE status OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}: ${error}")
  endif()
endmacro()

# The time of the sources, so that equal ones make equal packages.
if(NOT DEFINED ENV{SOURCE_DATE_EPOCH})
  execute_process(COMMAND git -C "${CPACK_TENSOR_PAGER_SOURCE}" log -1 --format=%ct
    OUTPUT_VARIABLE time ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT time)
    file(TIMESTAMP "${CPACK_TENSOR_PAGER_SOURCE}/CHANGELOG.md" time %s)
  endif()
  set(ENV{SOURCE_DATE_EPOCH} ${time})
endif()
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
configure_file(${packaging}/changelog.in "${scratch}/changelog.Debian" @ONLY)

# Who has which library: ours, and those of which dpkg does not know. Exactly this version, as all are built together.
set(own_libraries "")
foreach(layer IN LISTS CPACK_TENSOR_PAGER_LAYERS)
  string(TOUPPER ${layer} upper)
  string(APPEND own_libraries "libtensor_pager_${layer} ${CPACK_TENSOR_PAGER_SOVERSION} "
    "${CPACK_DEBIAN_${upper}_PACKAGE_NAME} (= ${CPACK_DEBIAN_PACKAGE_VERSION})\n")
endforeach()
list(JOIN CPACK_TENSOR_PAGER_SHLIBS "\n" others)
file(WRITE "${scratch}/shlibs" "${own_libraries}${others}\n")
set(searched ${CPACK_TENSOR_PAGER_SEARCHED})
list(TRANSFORM searched PREPEND "-l")

# add_documents(COMPONENT TREE PACKAGE): what policy asks for in every package, and what its users read.
function(add_documents component tree package)
  set(folder "${tree}/usr/share/doc/${package}")
  file(MAKE_DIRECTORY "${folder}")
  configure_file(${packaging}/copyright "${folder}/copyright" COPYONLY)
  configure_file("${CPACK_TENSOR_PAGER_SOURCE}/CHANGELOG.md" "${folder}/changelog" COPYONLY)
  configure_file("${scratch}/changelog.Debian" "${folder}/changelog.Debian" COPYONLY)
  foreach(document IN LISTS CPACK_TENSOR_PAGER_DOCUMENTS_${component})
    file(COPY "${CPACK_TENSOR_PAGER_SOURCE}/${document}" DESTINATION "${folder}")
  endforeach()
  foreach(example IN LISTS CPACK_TENSOR_PAGER_EXAMPLES_${component})
    cmake_path(GET example PARENT_PATH name)
    cmake_path(GET name FILENAME name)
    configure_file("${CPACK_TENSOR_PAGER_SOURCE}/${example}" "${folder}/examples/${name}.cpp" COPYONLY)
  endforeach()
  file(GLOB texts "${folder}/*.md" "${tree}/usr/share/man/man1/*.1")
  run(${gzip} -9nf "${folder}/changelog" "${folder}/changelog.Debian" ${texts})
endfunction()

# shared_library_depends(TREE VARIABLE): packages with the libraries that programs and libraries in it are linked with.
function(shared_library_depends tree variable)
  file(GLOB binaries "${tree}/usr/bin/*" "${tree}/usr/${CPACK_TENSOR_PAGER_LIBDIR}/*.so.*.*.*")
  set(output "")
  if(binaries)
    run(${dpkg_shlibdeps} -O "-L${scratch}/shlibs" ${searched} ${binaries})
    string(REGEX REPLACE ".*shlibs:Depends=" "" output "${output}")
  endif()
  set(${variable} "${output}" PARENT_SCOPE)
endfunction()

foreach(component IN LISTS CPACK_COMPONENTS_ALL)
  string(TOUPPER ${component} upper)
  set(tree "${CPACK_TEMPORARY_DIRECTORY}/${component}")
  set(package ${CPACK_DEBIAN_${upper}_PACKAGE_NAME})
  add_documents(${component} "${tree}" ${package})
  shared_library_depends("${tree}" libraries)
  string(JOIN ", " CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS ${CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS} ${libraries})
  if(component IN_LIST CPACK_TENSOR_PAGER_LAYERS)
    file(WRITE "${scratch}/${component}/shlibs" "libtensor_pager_${component} ${CPACK_TENSOR_PAGER_SOVERSION} "
      "${package} (>= ${CPACK_DEBIAN_PACKAGE_VERSION})\n")
    file(WRITE "${scratch}/${component}/triggers" "activate-noawait ldconfig\n")
    set(CPACK_DEBIAN_${upper}_PACKAGE_CONTROL_EXTRA "${scratch}/${component}/shlibs" "${scratch}/${component}/triggers")
  endif()
  run(chmod -R u=rwX,go=rX "${tree}")  # whatever the umask
  run(find "${tree}" -newermt "@$ENV{SOURCE_DATE_EPOCH}" -exec touch --no-dereference "--date=@$ENV{SOURCE_DATE_EPOCH}" {} +)
endforeach()
cmake_policy(POP)
