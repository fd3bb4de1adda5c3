# The tokenizer: PCRE2 for the pre-tokeniser, utf8proc for NFC.
find_package(PCRE2 REQUIRED)

# utf8proc has no CMake package in Debian and Ubuntu, and one library needs no more than this. The installed package
# names it instead of the path it had when it was built.
find_path(UTF8PROC_INCLUDE_DIR utf8proc.h)
find_library(UTF8PROC_LIBRARY utf8proc)
mark_as_advanced(UTF8PROC_INCLUDE_DIR UTF8PROC_LIBRARY)
if(NOT UTF8PROC_INCLUDE_DIR OR NOT UTF8PROC_LIBRARY)
  message(FATAL_ERROR "utf8proc, which normalises text to NFC, was not found: install libutf8proc-dev")
endif()

target_sources(tensor_pager_loaders PRIVATE
  src/tokenizer.cpp
  src/tokenizer_literals.cpp
  src/tokenizer_merges.cpp
  src/tokenizer_stream.cpp
  src/tokenizer_unicode.cpp
  src/tokenizer_vocabulary.cpp
  src/tokenizer_words.cpp)
target_include_directories(tensor_pager_loaders SYSTEM PRIVATE ${UTF8PROC_INCLUDE_DIR})
target_link_libraries(tensor_pager_loaders PRIVATE
  PCRE2::8BIT $<BUILD_INTERFACE:${UTF8PROC_LIBRARY}> $<INSTALL_INTERFACE:utf8proc>)
