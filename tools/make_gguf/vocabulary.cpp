// SPDX-License-Identifier: Apache-2.0
#include "vocabulary.hpp"

#include <fmt/format.h>

#include <optional>
#include <string_view>
#include <vector>

#include "loaders/gguf.hpp"
#include "random_model.hpp"

namespace tensor_pager::make_gguf {
namespace {

using loaders::TokenType;
using loaders::Vocabulary;

std::string utf8(std::uint32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

// GPT-2's alphabet: a byte that is a visible character of Latin-1 is written as itself, the others
// are the characters from U+0100 on.
std::vector<std::string> byte_alphabet() {
  std::vector<std::string> alphabet;
  std::uint32_t next = 0x100;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
    alphabet.push_back(utf8(visible ? byte : next++));
  }
  return alphabet;
}

Vocabulary vocabulary_of_bytes() {
  Vocabulary vocabulary;  // byte-level, words as Qwen2 cuts them
  vocabulary.tokens = byte_alphabet();
  vocabulary.types.assign(vocabulary.tokens.size(), TokenType::normal);
  vocabulary.eos = static_cast<loaders::TokenId>(vocabulary.tokens.size());
  for (const char* const control : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    vocabulary.tokens.emplace_back(control);
    vocabulary.types.push_back(TokenType::control);
  }
  return vocabulary;
}

Vocabulary vocabulary_of(const std::string& file) {
  const auto model = loaders::GgufModel::open(file);
  std::optional<Vocabulary> vocabulary = loaders::read_vocabulary(model.metadata());
  if (!vocabulary) {
    throw RandomModelError(fmt::format(
        "--vocabulary {}: the file has none; give one of another model, or \"bytes\"", file));
  }
  vocabulary->types.resize(vocabulary->tokens.size(), TokenType::normal);
  return *std::move(vocabulary);
}

}  // namespace

Vocabulary make_vocabulary(const std::string& what, std::uint32_t size) {
  Vocabulary vocabulary = what == "bytes" ? vocabulary_of_bytes() : vocabulary_of(what);
  while (vocabulary.tokens.size() < size) {
    vocabulary.tokens.push_back(fmt::format("[PAD{}]", vocabulary.tokens.size()));
    vocabulary.types.push_back(TokenType::unused);
  }
  return vocabulary;
}

void add_vocabulary(GgufHeader& header, const Vocabulary& vocabulary) {
  std::vector<std::int32_t> types;
  for (const TokenType type : vocabulary.types) types.push_back(static_cast<std::int32_t>(type));
  header.add("tokenizer.ggml.model", vocabulary.model);
  header.add("tokenizer.ggml.pre", vocabulary.pre);
  header.add_array("tokenizer.ggml.tokens", vocabulary.tokens);
  header.add_array("tokenizer.ggml.token_type", types);
  header.add_array("tokenizer.ggml.merges", vocabulary.merges);
  if (vocabulary.bos) header.add("tokenizer.ggml.bos_token_id", *vocabulary.bos);
  if (vocabulary.eos) header.add("tokenizer.ggml.eos_token_id", *vocabulary.eos);
  header.add("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
}

}  // namespace tensor_pager::make_gguf
