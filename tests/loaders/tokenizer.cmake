# SPDX-License-Identifier: Apache-2.0
find_package(nlohmann_json REQUIRED)

# The vocabulary is 1.7 MB of text, and a third of that in the repository.
set(vocabulary ${CMAKE_CURRENT_BINARY_DIR}/qwen2.5-vocabulary.txt)
set(archive ${PROJECT_SOURCE_DIR}/tests/data/tokenizer/qwen2.5-vocabulary.tar.xz)
add_custom_command(OUTPUT ${vocabulary}
  COMMAND ${CMAKE_COMMAND} -E tar xf ${archive} --touch
  WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}
  DEPENDS ${archive})

tensor_pager_test(tokenizer_test
  SOURCES end_of_generation_test.cpp tokenizer_qwen_test.cpp tokenizer_test.cpp tokenizer_vocabularies.cpp ${vocabulary}
  LIBRARIES tensor_pager::loaders nlohmann_json::nlohmann_json)
target_compile_definitions(tokenizer_test PRIVATE QWEN25_VOCABULARY="${vocabulary}")
