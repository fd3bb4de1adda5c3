// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "loaders/tokenizer.hpp"

namespace tensor_pager::qwen_prefill {

/// What to write of generated tokens, one after another: text, or numbers for a model without a
/// vocabulary.
class TokenText {
 public:
  /// `tokenizer` may be nullptr; it outlives this object.
  explicit TokenText(const loaders::Tokenizer* tokenizer);

  /// What can be written once this token is there.
  std::string push(loaders::TokenId token);
  /// What ends the text and its line.
  std::string finish();

 private:
  std::optional<loaders::StreamDecoder> decoder_;
  bool first_ = true;
};

}  // namespace tensor_pager::qwen_prefill
