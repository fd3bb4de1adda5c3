// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace tensor_pager::kernels {

/// Row-major float32 matrix that somebody else owns and that is only read. Element (r, c) is data[r
/// * stride + c]; stride is in elements and at least cols, so that a view may be a range of columns
/// of a larger matrix.
struct ConstMatrixView {
  const float* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = cols;

  [[nodiscard]] const float* row(std::size_t r) const { return data + r * stride; }
};

/// ConstMatrixView that may be written.
struct MatrixView {
  float* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = cols;

  [[nodiscard]] float* row(std::size_t r) const { return data + r * stride; }

  operator ConstMatrixView() const {  // NOLINT(google-explicit-constructor): reading is always safe
    return {data, rows, cols, stride};
  }
};

}  // namespace tensor_pager::kernels
