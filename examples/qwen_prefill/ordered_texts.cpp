// SPDX-License-Identifier: Apache-2.0
#include "ordered_texts.hpp"

#include <fmt/format.h>

#include "qwen/error.hpp"

namespace tensor_pager::qwen_prefill {

void OrderedTexts::append(std::size_t index, std::string_view text) {
  count() == 1 ? write(text) : void(texts_.at(index).held += text);
}

void OrderedTexts::finish(std::size_t index) {
  texts_.at(index).is_finished = true;
  for (; written_ < count() && texts_[written_].is_finished; ++written_) {
    if (count() == 1) continue;
    write(fmt::format("--- {} of {} ---\n", written_ + 1, count()));
    write(texts_[written_].held);
    texts_[written_].held = {};
  }
  if (std::ferror(out_) != 0) {
    throw qwen::Error(
        "the generated text could not be written; is the disk full, or the reader gone?");
  }
}

void OrderedTexts::write(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), out_);
  std::fflush(out_);
}

}  // namespace tensor_pager::qwen_prefill
