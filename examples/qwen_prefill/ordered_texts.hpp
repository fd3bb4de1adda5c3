// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdio>
#include <memory>
#include <vector>

namespace tensor_pager::qwen_prefill {

/// Texts that are written at once and come out one after another, each below a line that says which
/// it is. One alone is written to the stream as it comes, and has no such line.
class OrderedTexts {
 public:
  /// `out` outlives this object.
  OrderedTexts(std::FILE* out, std::size_t count);
  ~OrderedTexts();
  OrderedTexts(const OrderedTexts&) = delete;
  OrderedTexts& operator=(const OrderedTexts&) = delete;

  std::size_t count() const { return texts_.size(); }
  /// Where a text is to be written, until it is finished. Throws Error without memory.
  std::FILE* stream(std::size_t index);
  /// The text is complete. Throws Error if texts that are due could not be written.
  void finish(std::size_t index);

 private:
  class Held;

  void write_due();

  std::FILE* out_;
  std::vector<std::unique_ptr<Held>> texts_;
  std::size_t written_ = 0;  // of them
};

}  // namespace tensor_pager::qwen_prefill
