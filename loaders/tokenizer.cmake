# SPDX-License-Identifier: Apache-2.0
# The tokenizer: PCRE2 for the pre-tokeniser, utf8proc for NFC.
find_package(PCRE2 REQUIRED)
find_package(UTF8PROC REQUIRED)

target_sources(tensor_pager_loaders PRIVATE
  src/end_of_generation.cpp
  src/tokenizer.cpp
  src/tokenizer_literals.cpp
  src/tokenizer_merges.cpp
  src/tokenizer_stream.cpp
  src/tokenizer_unicode.cpp
  src/tokenizer_vocabulary.cpp
  src/tokenizer_words.cpp)
target_link_libraries(tensor_pager_loaders PRIVATE PCRE2::8BIT UTF8PROC::utf8proc)
