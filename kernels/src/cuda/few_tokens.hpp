// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/digits.hpp"
#include "kernels/cuda/matmul.hpp"

namespace tensor_pager::kernels::cuda {

/// What multiply_few multiplies together.
struct FewTokens {
  const std::uint8_t* w;
  std::size_t row_bytes;
  const std::byte* x;  ///< as DigitsView
  float* y;
  std::size_t y_stride;
  const float* bias;
  unsigned rows, cols, tokens;
  float factor;
  bool accumulate;
  unsigned multiprocessors;
};

/// y[t, r] = factor * w[r] . x[t] (+ bias[r]) (+ y[t, r]) for up to kMostFewTokens rows of x. The
/// bits of y[t, r] depend on row r and token t only. Throws Error if the type has no kernels or the
/// launch fails.
void multiply_few(const Weights& w, const DigitsView& x, const MatrixView& y, const float* bias,
                  bool accumulate, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
