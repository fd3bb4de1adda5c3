#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/operand.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// Rows of x rounded to operands, `stride` apart, followed by zeros. If `factors` is not null,
/// factors[t] becomes 1, or the power of two by which row t was divided to bring its largest
/// element into [1, 2); see MatmulOptions::scale_rows.
void round_rows(const ConstMatrixView& x, Operand* out, std::size_t stride, float* factors,
                cudaStream_t stream);

/// y[t, r] /= factors[t]. Exact but for underflow.
void divide_rows(const MatrixView& y, const float* factors, cudaStream_t stream);

/// y[t, r] = y[t, r] * factors[t] + bias[r]; either may be null.
void finish_rows(const MatrixView& y, const float* factors, const float* bias, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
