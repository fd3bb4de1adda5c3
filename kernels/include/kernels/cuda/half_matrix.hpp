// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>

#include <cstddef>

namespace tensor_pager::kernels::cuda {

/// ConstMatrixView of halves in device memory: element (r, c) is data[r * stride + c]; stride is in
/// elements and at least cols.
struct ConstHalfMatrixView {
  const __half* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = cols;
};

/// ConstHalfMatrixView that may be written.
struct HalfMatrixView {
  __half* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = cols;

  operator ConstHalfMatrixView() const {  // NOLINT(google-explicit-constructor)
    return {data, rows, cols, stride};
  }
};

}  // namespace tensor_pager::kernels::cuda
