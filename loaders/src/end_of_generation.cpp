// SPDX-License-Identifier: Apache-2.0
#include "loaders/end_of_generation.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace tensor_pager::loaders {
namespace {

constexpr std::array<std::string_view, 22> kEndOfText = {"<|eot_id|>",
                                                         "<|im_end|>",
                                                         "<|end|>",
                                                         "<|return|>",
                                                         "<|call|>",
                                                         "<|calls|>",
                                                         "<|flush|>",
                                                         "<end_of_turn>",
                                                         "<|endoftext|>",
                                                         "</s>",
                                                         "<|eom_id|>",
                                                         "<EOT>",
                                                         "_<EOT>",
                                                         "[EOT]",
                                                         "[EOS]",
                                                         "<|end_of_text|>",
                                                         "<end_of_utterance>",
                                                         "<eos>",
                                                         "<turn|>",
                                                         "<|tool_response>",
                                                         "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
                                                         "[e~["};

// Behind the end of a completed file comes padding, or the name of the next file or repository.
constexpr std::array<std::string_view, 11> kEndOfFile = {
    "<|fim_pad|>",   "<fim-pad>",  "<fim_pad>", "<PAD>",      "[PAD]",       "<|fim_repo|>",
    "<|repo_name|>", "<fim-repo>", "<REPO>",    "<reponame>", "<|file_sep|>"};

template <std::size_t n>
bool is_one_of(std::string_view text, const std::array<std::string_view, n>& names) {
  return std::ranges::find(names, text) != names.end();
}

bool is_made_by_a_merge(const Vocabulary& vocabulary, std::string_view token) {
  return std::ranges::any_of(vocabulary.merges, [&](std::string_view merge) {
    const std::size_t blank = merge.find(' ');
    return blank != std::string_view::npos && merge.size() == token.size() + 1 &&
           token.starts_with(merge.substr(0, blank)) && token.ends_with(merge.substr(blank + 1));
  });
}

bool is_text(const Vocabulary& vocabulary, std::size_t id) {
  const bool normal = id >= vocabulary.types.size() || vocabulary.types[id] == TokenType::normal;
  return normal && is_made_by_a_merge(vocabulary, vocabulary.tokens[id]);
}

// In the harmony format `<|end|>` ends a message of several, and `<|return|>` or `<|flush|>` all.
bool ends_only_a_message(const Vocabulary& vocabulary, std::string_view token) {
  const auto has = [&](std::string_view text) {
    return std::ranges::find(vocabulary.tokens, text) != vocabulary.tokens.end();
  };
  return token == "<|end|>" && (has("<|call|>") || has("<|calls|>")) &&
         (has("<|return|>") || has("<|flush|>"));
}

}  // namespace

std::vector<TokenId> end_of_generation(const Vocabulary& vocabulary) {
  std::vector<TokenId> ends;
  for (const std::optional<TokenId> named :
       {vocabulary.eos, vocabulary.eot, vocabulary.eom, vocabulary.fim_pad, vocabulary.fim_repo,
        vocabulary.fim_separator}) {
    if (named && *named < vocabulary.tokens.size()) ends.push_back(*named);
  }
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string_view token = vocabulary.tokens[id];
    if (!is_one_of(token, kEndOfText) && !is_one_of(token, kEndOfFile)) continue;
    if (is_text(vocabulary, id) || ends_only_a_message(vocabulary, token)) continue;
    ends.push_back(static_cast<TokenId>(id));
  }
  std::ranges::sort(ends);
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return ends;
}

}  // namespace tensor_pager::loaders
