// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace tensor_pager::qwen_prefill {

/// Texts that grow at once and come out one after another, each below a line that says which it is.
/// One alone is written to the stream as it comes, and has no such line.
class OrderedTexts {
 public:
  /// `out` outlives this object.
  OrderedTexts(std::FILE* out, std::size_t count) : out_(out), texts_(count) {}

  std::size_t count() const { return texts_.size(); }
  void append(std::size_t index, std::string_view text);
  /// The text is complete. Throws Error if texts that are due could not be written.
  void finish(std::size_t index);

 private:
  struct Text {
    std::string held;
    bool is_finished = false;
  };

  void write(std::string_view text);

  std::FILE* out_;
  std::vector<Text> texts_;
  std::size_t written_ = 0;  // of them
};

}  // namespace tensor_pager::qwen_prefill
