// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

// PCRE2's opaque types, declared here so that its header, which needs a macro set first, is
// included in one place only.
struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;

namespace tensor_pager::loaders {

/// The pre-tokeniser: cuts text into words, beyond whose ends no merge reaches.
class WordSplitter {
 public:
  /// `name` is the value of `tokenizer.ggml.pre`. Throws TokenizerError if it is not known.
  explicit WordSplitter(std::string_view name);

  /// Whether models with this pre-tokeniser were trained on NFC text.
  bool wants_nfc() const { return wants_nfc_; }

 private:
  friend class WordCursor;
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  struct FreeLimits {
    void operator()(pcre2_real_match_context_8* limits) const;
  };
  std::unique_ptr<pcre2_real_code_8, FreeCode> code_;
  std::unique_ptr<pcre2_real_match_context_8, FreeLimits> limits_;
  bool wants_nfc_ = false;
};

/// Walks the words of one text, in order and without gaps.
class WordCursor {
 public:
  /// `text` must be valid UTF-8; it and `splitter` must outlive the cursor.
  WordCursor(const WordSplitter& splitter, std::string_view text);

  /// The next word; empty at the end of the text.
  std::string_view next();

 private:
  struct FreeMatch {
    void operator()(pcre2_real_match_data_8* match) const;
  };
  const WordSplitter* splitter_;
  std::unique_ptr<pcre2_real_match_data_8, FreeMatch> match_;
  std::string_view text_;
  std::size_t position_ = 0;
};

}  // namespace tensor_pager::loaders
