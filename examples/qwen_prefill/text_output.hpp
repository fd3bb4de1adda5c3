#pragma once

#include <optional>

#include "loaders/tokenizer.hpp"

namespace tensor_pager::qwen_prefill {

/// Generated tokens on stdout, as soon as they are there: as text, or as numbers for a model
/// without a vocabulary.
class TextOutput {
 public:
  /// `tokenizer` may be nullptr, and outlives this object.
  explicit TextOutput(const loaders::Tokenizer* tokenizer);

  void push(loaders::TokenId token);
  /// Ends the text and its line. Throws Error if stdout could not be written.
  void finish();

 private:
  std::optional<loaders::StreamDecoder> decoder_;
  bool first_ = true;
};

}  // namespace tensor_pager::qwen_prefill
