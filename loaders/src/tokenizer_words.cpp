// SPDX-License-Identifier: Apache-2.0
#include "tokenizer_words.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/tokenizer.hpp"
#include "tokenizer_quoted.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace tensor_pager::loaders {
namespace {

struct PreTokenizer {
  std::string_view name;
  std::string_view pattern;
  bool wants_nfc;
};

// Unicode's White_Space property. PCRE2's own \s has U+180E as well, which lost the property in
// Unicode 6.3 and is not white space to the tokenizers that the models were trained with.
#define TENSOR_PAGER_SPACE \
  R"(\t-\r\x20\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})"

// Patterns as in the tokenizer.json of the models; `mark` is what a word may have beside letters.
#define TENSOR_PAGER_QWEN_PATTERN(mark)                              \
  R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"                                  \
  R"(|[^\r\n\p{L}\p{N}]?[\p{L})" mark R"(]+)"                        \
  R"(|\p{N})"                                                        \
  R"(| ?[^\p{L})" mark R"(\p{N})" TENSOR_PAGER_SPACE R"(]+[\r\n]*)"  \
  R"(|[)" TENSOR_PAGER_SPACE R"(]*[\r\n]+)"                          \
  R"(|[)" TENSOR_PAGER_SPACE R"(]+(?![^)" TENSOR_PAGER_SPACE R"(]))" \
  R"(|[)" TENSOR_PAGER_SPACE R"(]+)"

constexpr std::string_view kQwen2Pattern = TENSOR_PAGER_QWEN_PATTERN("");
constexpr std::string_view kQwen35Pattern = TENSOR_PAGER_QWEN_PATTERN(R"(\p{M})");

// Converters name a pre-tokeniser by what a tokenizer makes of a sample text, begin-of-sequence
// tokens included, so one rule goes by several names.
constexpr std::array<PreTokenizer, 6> kPreTokenizers{{
    {"qwen2", kQwen2Pattern, /*wants_nfc=*/true},
    {"deepseek-r1-qwen", kQwen2Pattern, /*wants_nfc=*/true},
    {"f2llmv2", kQwen2Pattern, /*wants_nfc=*/true},
    {"kormo", kQwen2Pattern, /*wants_nfc=*/true},
    {"megrez", kQwen2Pattern, /*wants_nfc=*/true},
    {"qwen35", kQwen35Pattern, /*wants_nfc=*/true},
}};

#undef TENSOR_PAGER_QWEN_PATTERN
#undef TENSOR_PAGER_SPACE

const PreTokenizer& find_pre_tokenizer(std::string_view name) {
  const auto found = std::ranges::find(kPreTokenizers, name, &PreTokenizer::name);
  if (found != kPreTokenizers.end()) return *found;
  std::vector<std::string_view> names;
  names.reserve(kPreTokenizers.size());
  for (const PreTokenizer& known : kPreTokenizers) names.push_back(known.name);
  throw TokenizerError(
      fmt::format("unknown pre-tokeniser {} (tokenizer.ggml.pre); supported: {}; give token "
                  "ids instead of text",
                  quoted(name), fmt::join(names, ", ")));
}

std::string pcre2_message(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

void WordSplitter::FreeCode::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

void WordSplitter::FreeLimits::operator()(pcre2_real_match_context_8* limits) const {
  pcre2_match_context_free(limits);
}

void WordCursor::FreeMatch::operator()(pcre2_real_match_data_8* match) const {
  pcre2_match_data_free(match);
}

WordSplitter::WordSplitter(std::string_view name) {
  const PreTokenizer& pre = find_pre_tokenizer(name);
  wants_nfc_ = pre.wants_nfc;
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Anchored, because every character begins a word: a match further on would be a gap.
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pre.pattern.data()), pre.pattern.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr));
  if (!code_) {
    throw TokenizerError(
        fmt::format("PCRE2 rejects the pattern of pre-tokeniser \"{}\" at offset {}: {}; use a "
                    "PCRE2 built with "
                    "Unicode support",
                    name, offset, pcre2_message(error)));
  }
  // PCRE2 gives up after ten million steps by default, which guards against patterns that take
  // exponential time. These take linear time, and white space of that length takes as many.
  limits_.reset(pcre2_match_context_create(nullptr));
  if (!limits_) throw std::bad_alloc();
  pcre2_set_match_limit(limits_.get(), UINT32_MAX);
  // Where code cannot be generated (hardened kernels), pcre2_match interprets the pattern instead.
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
}

WordCursor::WordCursor(const WordSplitter& splitter, std::string_view text)
    : splitter_(&splitter),
      match_(pcre2_match_data_create_from_pattern(splitter.code_.get(), nullptr)),
      text_(text) {
  if (!match_) throw std::bad_alloc();
}

std::string_view WordCursor::next() {
  if (position_ == text_.size()) return {};
  const int found =
      pcre2_match(splitter_->code_.get(), reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(),
                  position_, PCRE2_NO_UTF_CHECK, match_.get(), splitter_->limits_.get());
  if (found < 0) {
    throw TokenizerError(
        fmt::format("PCRE2 cannot find the word at byte {} of {}: {}; split the text there",
                    position_, text_.size(), pcre2_message(found)));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match_.get());
  const std::string_view word = text_.substr(position_, bounds[1] - position_);
  position_ = bounds[1];
  return word;
}

}  // namespace tensor_pager::loaders
