// SPDX-License-Identifier: Apache-2.0
#include "tokenizer_vocabularies.hpp"

#include <algorithm>
#include <fstream>
#include <stdexcept>

namespace tensor_pager::loaders::testing {
namespace {

std::string utf8_of(unsigned character) {
  if (character < 0x80) return {static_cast<char>(character)};
  return {static_cast<char>(0xC0 | character >> 6), static_cast<char>(0x80 | (character & 0x3F))};
}

/// Reads "heading N" and then N lines.
std::vector<std::string> read_section(std::ifstream& file, const std::string& heading) {
  std::string line;
  std::getline(file, line);
  if (!line.starts_with(heading + ' ')) throw std::runtime_error("no section " + heading);
  std::vector<std::string> lines(std::stoul(line.substr(heading.size() + 1)));
  for (std::string& entry : lines) std::getline(file, entry);
  if (!file) throw std::runtime_error("section " + heading + " is cut short");
  return lines;
}

}  // namespace

std::string in_alphabet(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    const unsigned byte = static_cast<unsigned char>(c);
    if (byte <= 0x20) {
      text += utf8_of(0x100 + byte);
    } else if (byte >= 0x7F && byte <= 0xA0) {
      text += utf8_of(0x121 + byte - 0x7F);
    } else {
      text += byte == 0xAD ? utf8_of(0x143) : utf8_of(byte);
    }
  }
  return text;
}

Vocabulary byte_vocabulary() {
  Vocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    add_token(vocabulary, in_alphabet(std::string(1, static_cast<char>(byte))), TokenType::normal);
  }
  return vocabulary;
}

TokenId add_token(Vocabulary& vocabulary, std::string text, TokenType type) {
  vocabulary.tokens.push_back(std::move(text));
  vocabulary.types.push_back(type);
  return static_cast<TokenId>(vocabulary.tokens.size() - 1);
}

TokenId add_merge(Vocabulary& vocabulary, std::string_view left, std::string_view right) {
  const std::string first = in_alphabet(left);
  const std::string second = in_alphabet(right);
  vocabulary.merges.push_back(first + ' ' + second);
  const auto found = std::ranges::find(vocabulary.tokens, first + second);
  if (found == vocabulary.tokens.end()) {
    return add_token(vocabulary, first + second, TokenType::normal);
  }
  return static_cast<TokenId>(found - vocabulary.tokens.begin());
}

Vocabulary qwen25_vocabulary() {
  std::ifstream file(QWEN25_VOCABULARY);
  if (!file) throw std::runtime_error("cannot open " QWEN25_VOCABULARY);
  Vocabulary vocabulary;
  vocabulary.tokens = read_section(file, "byte tokens");
  vocabulary.merges = read_section(file, "merges");
  for (const std::string& merge : vocabulary.merges) {
    vocabulary.tokens.push_back(merge);
    std::erase(vocabulary.tokens.back(), ' ');
  }
  vocabulary.types.resize(vocabulary.tokens.size(), TokenType::normal);
  for (const std::string& line : read_section(file, "added tokens")) {
    const std::size_t space = line.find(' ');
    add_token(vocabulary, line.substr(space + 1),
              line.starts_with("control ") ? TokenType::control : TokenType::user_defined);
  }
  return vocabulary;
}

}  // namespace tensor_pager::loaders::testing
