#include "prompt.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

#include "qwen/error.hpp"

namespace tensor_pager::qwen_prefill {
namespace {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  // A directory opens, but cannot be read; an empty file gives nothing, and that is no failure.
  if (in && in.peek() != std::ifstream::traits_type::eof()) content << in.rdbuf();
  if (in.bad() || !(in || in.eof()) || std::filesystem::is_directory(path)) {
    const int cause = std::filesystem::is_directory(path) ? EISDIR : errno;
    throw qwen::Error(fmt::format("{}: cannot read the prompt: {}; give another file",
                                  path.string(), std::generic_category().message(cause)));
  }
  return std::move(content).str();
}

std::vector<loaders::TokenId> encode(const qwen::Model& model, const std::string& text,
                                     const std::string& where) {
  if (!model.tokenizer) throw qwen::Error(model.no_tokenizer);
  if (text.empty()) throw qwen::Error(where + " is empty; give at least one character");
  try {
    return model.tokenizer->encode(text);
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
          path.string(), word.substr(0, 40), tokens.size() + 1));
    }
    if (token >= model.config.vocab_size) {
      throw qwen::Error(
          fmt::format("{}: token id {}, number {} in the file, is out of range: the vocabulary has "
                      "{} tokens; give smaller ids",
                      path.string(), token, tokens.size() + 1, model.config.vocab_size));
    }
    tokens.push_back(token);
  }
  return tokens;
}

}  // namespace

std::vector<loaders::TokenId> read_prompt(const qwen::Model& model, const PromptSource& source) {
  std::vector<loaders::TokenId> tokens;
  std::string where = "the prompt";
  if (const auto* text = std::get_if<PromptText>(&source)) {
    tokens = encode(model, text->text, where);
  } else if (const auto* file = std::get_if<PromptFile>(&source)) {
    where = file->path.string();
    tokens = encode(model, read_file(file->path), where);
  } else {
    const auto& path = std::get<TokensFile>(source).path;
    where = path.string();
    tokens = read_tokens(model, path);
  }
  if (tokens.empty()) throw qwen::Error(where + " has no tokens; give at least one");
  return tokens;
}

}  // namespace tensor_pager::qwen_prefill
