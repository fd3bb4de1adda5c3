// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/matmul.hpp"

namespace tensor_pager::kernels::cuda {

/// y[r] = factor * w[r] . x (+ bias[r]) (+ y[r]) for one token, in float32. The bits of y[r] depend
/// on row r only. Throws Error if x is not aligned as the weights need it or the launch fails.
void matvec(const Weights& w, const float* x, float* y, const float* bias, bool accumulate,
            cudaStream_t stream);

/// The same as a kernel takes it; rows are `row_bytes` apart.
struct MatvecArguments {
  const std::uint8_t* w;
  std::size_t row_bytes;
  const float* x;
  float* y;
  const float* bias;
  unsigned rows, cols;
  float factor;
  bool accumulate;
};

}  // namespace tensor_pager::kernels::cuda
