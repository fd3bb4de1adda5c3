// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/operand.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// Throws Error unless the view has this shape, is aligned, and has rows of its stride.
void require_operand(const char* what, const OperandView& m, std::size_t rows, std::size_t cols);

/// y[t, r] /= factors[t]. Exact but for underflow.
void divide_rows(const MatrixView& y, const float* factors, cudaStream_t stream);

/// y[t, r] = y[t, r] * factors[t] + bias[r]; either may be null.
void finish_rows(const MatrixView& y, const float* factors, const float* bias, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
