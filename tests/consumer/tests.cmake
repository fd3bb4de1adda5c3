# SPDX-License-Identifier: Apache-2.0
# Builds the project in this folder the two ways an embedder can, and runs it:
#   consumer.find_package        against this build, installed to a prefix of its own (static libraries, as configured)
#   consumer.add_subdirectory    from source, with shared libraries
#   consumer.find_package_shared against those shared libraries, installed
#   consumer.pager_alone         the pager of that installation, where nothing can be found that it does not need
#   consumer.pager_alone_source  the same, embedded
#   consumer.pkg_config.MODULE   against the static libraries, with nothing but the compiler and pkg-config
#   consumer.pkg_config_shared.  against the shared ones
#   consumer.exports             looks at what those export
# The embedded build is unoptimised, without debug information: it asks whether things fit together, not how fast.
set(consumer_dir ${PROJECT_BINARY_DIR}/consumer)
set(consumer_options -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=
  -DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER})

# consumer_test(NAME build options...): configures, builds and runs the consumer in its own folder.
function(consumer_test name)
  add_test(NAME consumer.${name} COMMAND ${CMAKE_CTEST_COMMAND}
    --build-and-test ${CMAKE_CURRENT_SOURCE_DIR}/consumer ${consumer_dir}/${name}
    --build-generator ${CMAKE_GENERATOR} --build-noclean --build-options ${consumer_options} ${ARGN}
    --test-command ${consumer_dir}/${name}/consumer)
  set_tests_properties(consumer.${name} PROPERTIES TIMEOUT 600 RUN_SERIAL ON)
endfunction()

# consumer_install(NAME build_dir prefix): installs a build to a clean prefix before the test that uses it.
function(consumer_install name build_dir prefix)
  add_test(NAME consumer.${name}.clean COMMAND ${CMAKE_COMMAND} -E rm -rf ${prefix})
  add_test(NAME consumer.${name}.install COMMAND ${CMAKE_COMMAND} --install ${build_dir} --prefix ${prefix})
  set_tests_properties(consumer.${name}.clean PROPERTIES FIXTURES_SETUP consumer_${name}_clean)
  set_tests_properties(consumer.${name}.install PROPERTIES
    FIXTURES_REQUIRED consumer_${name}_clean FIXTURES_SETUP consumer_${name})
endfunction()

consumer_install(find_package ${PROJECT_BINARY_DIR} ${consumer_dir}/prefix)
consumer_test(find_package -DCMAKE_PREFIX_PATH=${consumer_dir}/prefix)
set_tests_properties(consumer.find_package PROPERTIES FIXTURES_REQUIRED consumer_find_package)

set(pager_alone -DCONSUMER_COMPONENTS=pager)
foreach(package IN ITEMS PCRE2 UTF8PROC TBB fmt)
  list(APPEND pager_alone -DCMAKE_DISABLE_FIND_PACKAGE_${package}=ON)
endforeach()
consumer_test(pager_alone -DCMAKE_PREFIX_PATH=${consumer_dir}/prefix ${pager_alone})
set_tests_properties(consumer.pager_alone PROPERTIES FIXTURES_REQUIRED consumer_find_package)
consumer_test(pager_alone_source -DTENSOR_PAGER_SOURCE=${PROJECT_SOURCE_DIR} -DPAGER_CUDA=OFF ${pager_alone})

# What was installed completes: bash and zsh find the scripts in these folders by the programs' names.
add_test(NAME consumer.completion COMMAND ${CMAKE_COMMAND} -E cat
  ${consumer_dir}/prefix/${CMAKE_INSTALL_DATADIR}/bash-completion/completions/qwen_prefill
  ${consumer_dir}/prefix/${CMAKE_INSTALL_DATADIR}/zsh/site-functions/_qwen_prefill)
set_tests_properties(consumer.completion PROPERTIES FIXTURES_REQUIRED consumer_find_package
  PASS_REGULAR_EXPRESSION "complete -F _qwen_prefill_completion qwen_prefill.*#compdef qwen_prefill")
add_test(NAME consumer.man_page COMMAND ${CMAKE_COMMAND} -E cat ${consumer_dir}/prefix/${CMAKE_INSTALL_MANDIR}/man1/qwen_prefill.1)
set_tests_properties(consumer.man_page PROPERTIES FIXTURES_REQUIRED consumer_find_package
  PASS_REGULAR_EXPRESSION "[.]SH .NAME.\nqwen_prefill ")

consumer_test(add_subdirectory
  -DTENSOR_PAGER_SOURCE=${PROJECT_SOURCE_DIR} -DBUILD_SHARED_LIBS=ON -DTENSOR_PAGER_INSTALL=ON -DPAGER_CUDA=OFF)
consumer_install(find_package_shared ${consumer_dir}/add_subdirectory ${consumer_dir}/prefix_shared)
set_tests_properties(consumer.add_subdirectory PROPERTIES FIXTURES_SETUP consumer_shared_build)
set_property(TEST consumer.find_package_shared.install APPEND PROPERTY FIXTURES_REQUIRED consumer_shared_build)
consumer_test(find_package_shared -DCMAKE_PREFIX_PATH=${consumer_dir}/prefix_shared)
set_tests_properties(consumer.find_package_shared PROPERTIES FIXTURES_REQUIRED consumer_find_package_shared)

add_test(NAME consumer.exports COMMAND ${CMAKE_COMMAND}
  -DNM=${CMAKE_NM} -DFOLDER=${consumer_dir}/prefix_shared/${CMAKE_INSTALL_LIBDIR}
  -P ${CMAKE_CURRENT_SOURCE_DIR}/consumer/check_exports.cmake)
set_tests_properties(consumer.exports PROPERTIES FIXTURES_REQUIRED consumer_find_package_shared)

find_program(PKG_CONFIG_EXECUTABLE pkg-config)
if(PKG_CONFIG_EXECUTABLE)
  foreach(kind IN ITEMS "" "_shared")
    foreach(module IN ITEMS tensor_pager_pager tensor_pager)
      set(name consumer.pkg_config${kind}.${module})
      add_test(NAME ${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/consumer/pkg_config.sh ${CMAKE_CXX_COMPILER}
        ${consumer_dir}/pkg_config${kind}/${module} ${module} ${consumer_dir}/prefix${kind} ${CMAKE_INSTALL_LIBDIR})
      set_tests_properties(${name} PROPERTIES TIMEOUT 120 FIXTURES_REQUIRED consumer_find_package${kind})
    endforeach()
  endforeach()
endif()
