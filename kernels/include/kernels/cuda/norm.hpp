// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/digits.hpp"
#include "kernels/cuda/operand.hpp"
#include "kernels/export.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// Where a norm notes that a row of x is not numbers, or that its squares overflow float32: *first
/// becomes `stage` if it was greater. Memory that the GPU can write, read once the work has ended;
/// work that notes in the same place is queued in one stream. Null: nothing is noted.
struct NotFinite {
  unsigned* first = nullptr;
  unsigned stage = 0;
};

/// As cpu::rms_norm, the squares summed in float32 in an order that depends on n only. x and out
/// may be the same matrix. Throws Error if the shapes do not agree or the launch fails.
TENSOR_PAGER_EXPORT void rms_norm(const ConstMatrixView& x, const float* weight, float epsilon,
                                  const MatrixView& out, cudaStream_t stream,
                                  const NotFinite& not_finite = {});

/// The same as the operand of a product; out.factors are not used: what a norm leaves is in range.
TENSOR_PAGER_EXPORT void rms_norm(const ConstMatrixView& x, const float* weight, float epsilon,
                                  const OperandView& out, cudaStream_t stream,
                                  const NotFinite& not_finite = {});

/// The same as digits.
TENSOR_PAGER_EXPORT void rms_norm(const ConstMatrixView& x, const float* weight, float epsilon,
                                  const DigitsView& out, cudaStream_t stream,
                                  const NotFinite& not_finite = {});

}  // namespace tensor_pager::kernels::cuda
