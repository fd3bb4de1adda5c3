// SPDX-License-Identifier: Apache-2.0
#include "token_text.hpp"

#include <fmt/format.h>

#include <utility>

namespace tensor_pager::qwen_prefill {

TokenText::TokenText(const loaders::Tokenizer* tokenizer) {
  if (tokenizer == nullptr) return;
  decoder_.emplace(*tokenizer, loaders::DecodeOptions{.render_control = false});
}

std::string TokenText::push(loaders::TokenId token) {
  if (decoder_) return decoder_->push(token);
  return fmt::format("{}{}", std::exchange(first_, false) ? "" : " ", token);
}

std::string TokenText::finish() {
  return (decoder_ ? decoder_->finish() : std::string()) + "\n";
}

}  // namespace tensor_pager::qwen_prefill
