// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include "loaders/tokenizer.hpp"

namespace tensor_pager::qwen_prefill {

/// Throws Error if something could not be written to the stream.
void require_written(std::FILE* out);

/// Generated tokens on a stream, as soon as they are there: as text, or as numbers for a model
/// without a vocabulary.
class TextOutput {
 public:
  /// `tokenizer` may be nullptr; both outlive this object.
  TextOutput(const loaders::Tokenizer* tokenizer, std::FILE* out);

  void push(loaders::TokenId token);
  /// Ends the text and its line. Throws Error if the stream could not be written.
  void finish();

 private:
  void write(const std::string& text);

  std::FILE* out_;
  std::optional<loaders::StreamDecoder> decoder_;
  bool first_ = true;
};

}  // namespace tensor_pager::qwen_prefill
