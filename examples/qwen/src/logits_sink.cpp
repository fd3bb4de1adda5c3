// SPDX-License-Identifier: Apache-2.0
#include "qwen/logits_sink.hpp"

#include <algorithm>
#include <bit>
#include <span>

namespace tensor_pager::qwen {

static_assert(std::endian::native == std::endian::little, "logits are written as they are");

void LastLogits::take(std::size_t first, std::size_t first_token,
                      const kernels::ConstMatrixView& logits) {
  if (last_ < first || last_ >= first + logits.rows || first_token >= values_.size()) return;
  std::copy_n(logits.row(last_ - first), std::min(logits.cols, values_.size() - first_token),
              values_.begin() + static_cast<std::ptrdiff_t>(first_token));
}

void EachLogits::take(std::size_t first, std::size_t first_token,
                      const kernels::ConstMatrixView& logits) {
  if (first_token >= vocabulary_) return;
  const std::size_t count = std::min(logits.cols, vocabulary_ - first_token);
  for (std::size_t r = 0; r < logits.rows; ++r) {
    std::copy_n(logits.row(r), count, &values_.at((first + r) * vocabulary_ + first_token));
  }
}

void LogitsFile::take(std::size_t first, std::size_t first_token,
                      const kernels::ConstMatrixView& logits) {
  for (std::size_t r = 0; r < logits.rows; ++r) {
    const std::size_t at = ((first + r) * vocabulary_ + first_token) * sizeof(float);
    file_.write_at(at, std::as_bytes(std::span(logits.row(r), logits.cols)));
  }
  next_->take(first, first_token, logits);
}

}  // namespace tensor_pager::qwen
