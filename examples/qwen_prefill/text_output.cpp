// SPDX-License-Identifier: Apache-2.0
#include "text_output.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "qwen/error.hpp"

namespace tensor_pager::qwen_prefill {

TextOutput::TextOutput(const loaders::Tokenizer* tokenizer, std::FILE* out) : out_(out) {
  if (tokenizer != nullptr)
    decoder_.emplace(*tokenizer, loaders::DecodeOptions{.render_control = false});
}

void TextOutput::push(loaders::TokenId token) {
  write(decoder_ ? decoder_->push(token) : fmt::format("{}{}", first_ ? "" : " ", token));
  first_ = false;
}

void TextOutput::write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), out_);
  std::fflush(out_);
}

void TextOutput::finish() {
  write((decoder_ ? decoder_->finish() : std::string()) + "\n");
  require_written(out_);
}

void require_written(std::FILE* out) {
  if (std::ferror(out) == 0) return;
  throw qwen::Error(
      "the generated text could not be written; is the disk full, or the reader gone?");
}

}  // namespace tensor_pager::qwen_prefill
