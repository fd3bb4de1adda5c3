// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace tensor_pager::qwen {

/// Activations [rows, cols] on their way from one operation to another, in the form in which the
/// Operations of a device keep them (Operations::activation_bytes).
struct ActivationView {
  std::byte* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
};

}  // namespace tensor_pager::qwen
