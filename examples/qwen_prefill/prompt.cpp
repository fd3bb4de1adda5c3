// SPDX-License-Identifier: Apache-2.0
#include "prompt.hpp"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "loaders/printable.hpp"
#include "pager/system_error.hpp"
#include "pager/types.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen_prefill {
namespace {

// Far beyond any context, and little enough to be read: a device or a pipe may never end.
constexpr Bytes kLongest = MiB(256);

// Some editors begin a file with one; it is no part of the text.
std::string without_byte_order_mark(std::string text) {
  constexpr std::string_view kMark = "\xef\xbb\xbf";
  if (text.starts_with(kMark)) text.erase(0, kMark.size());
  return text;
}

[[noreturn]] void cannot_read(const std::string& where, int cause) {
  throw qwen::Error(
      fmt::format("{}: cannot read the prompt: {}; give another file", where, cause_of(cause)));
}

bool is_standard_input(const std::filesystem::path& path) {
  return path == "-";
}

std::string name_of(const std::filesystem::path& path) {
  return is_standard_input(path) ? "standard input" : path.string();
}

std::string read_all(std::FILE* in, const std::string& where) {
  std::string content;
  std::array<char, 65'536> piece{};
  while (const std::size_t size = std::fread(piece.data(), 1, piece.size(), in)) {
    content.append(piece.data(), size);
    if (content.size() > kLongest.count) {
      throw qwen::Error(fmt::format("{}: the prompt is longer than {}; give a shorter one", where,
                                    to_string(kLongest)));
    }
  }
  if (std::ferror(in) != 0) cannot_read(where, errno);
  return without_byte_order_mark(std::move(content));
}

std::string read_file(const std::filesystem::path& path) {
  const std::string where = name_of(path);
  if (is_standard_input(path)) return read_all(stdin, where);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(std::fopen(path.c_str(), "rb"),
                                                           std::fclose);
  if (in == nullptr) cannot_read(where, errno);
  return read_all(in.get(), where);
}

std::vector<loaders::TokenId> encode(const qwen::Model& model, const std::string& text,
                                     const std::string& where, bool goes_on = false) {
  if (!model.tokenizer) throw qwen::Error(model.no_tokenizer + " (--tokens FILE)");
  if (text.empty()) throw qwen::Error(where + " is empty; give at least one character");
  try {
    return model.tokenizer->encode(text, {.add_bos = !goes_on});
  } catch (const loaders::TokenizerError& error) {
    throw qwen::Error(fmt::format("{}: {}", where, error.what()));
  }
}

std::vector<loaders::TokenId> read_tokens(const qwen::Model& model,
                                          const std::filesystem::path& path) {
  std::istringstream words(read_file(path));
  std::vector<loaders::TokenId> tokens;
  for (std::string word; words >> word;) {
    loaders::TokenId token = 0;
    const char* const end = word.data() + word.size();
    const auto [rest, error] = std::from_chars(word.data(), end, token);
    if (error != std::errc{} || rest != end) {
      throw qwen::Error(fmt::format(
          "{}: \"{}\", number {} in the file, is not a token id; give numbers between blanks",
          name_of(path), loaders::printable(word.substr(0, 40)), tokens.size() + 1));
    }
    if (token >= model.config.vocab_size) {
      throw qwen::Error(
          fmt::format("{}: token id {}, number {} in the file, is out of range: the vocabulary has "
                      "{} tokens; give smaller ids",
                      name_of(path), token, tokens.size() + 1, model.config.vocab_size));
    }
    tokens.push_back(token);
  }
  return tokens;
}

// One that has at least one token.
std::vector<loaders::TokenId> read_prompt(const qwen::Model& model, const PromptSource& source,
                                          bool goes_on) {
  std::vector<loaders::TokenId> tokens;
  std::string where = "the prompt";
  if (const auto* text = std::get_if<PromptText>(&source)) {
    tokens = encode(model, text->text, where, goes_on);
  } else if (const auto* file = std::get_if<PromptFile>(&source)) {
    where = name_of(file->path);
    tokens = encode(model, read_file(file->path), where, goes_on);
  } else {
    const auto& path = std::get<TokensFile>(source).path;
    where = name_of(path);
    tokens = read_tokens(model, path);
  }
  if (tokens.empty()) throw qwen::Error(where + " has no tokens; give at least one");
  return tokens;
}

std::vector<std::vector<loaders::TokenId>> read_lines(const qwen::Model& model,
                                                      const std::filesystem::path& path) {
  std::vector<std::vector<loaders::TokenId>> prompts;
  std::istringstream lines(read_file(path));
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    prompts.push_back(encode(model, line, fmt::format("{}, line {}", name_of(path), number)));
  }
  if (prompts.empty()) throw qwen::Error(name_of(path) + " has no prompts; give one in each line");
  return prompts;
}

}  // namespace

std::vector<std::vector<loaders::TokenId>> read_prompts(const qwen::Model& model,
                                                        const PromptSource& source, bool goes_on) {
  if (const auto* lines = std::get_if<PromptLines>(&source)) return read_lines(model, lines->path);
  return {read_prompt(model, source, goes_on)};
}

bool begins_twice(const qwen::Model& model, std::span<const loaders::TokenId> prompt) {
  if (!model.tokenizer || !model.tokenizer->adds_bos() || prompt.size() < 2) return false;
  return prompt[0] == model.tokenizer->bos() && prompt[1] == prompt[0];
}

}  // namespace tensor_pager::qwen_prefill
