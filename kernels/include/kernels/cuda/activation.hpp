// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/digits.hpp"
#include "kernels/cuda/operand.hpp"
#include "kernels/export.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// As cpu::swiglu: out = silu(gate) * up; out may be gate or up. Throws Error if the shapes do not
/// agree or the launch fails, as does the function below.
TENSOR_PAGER_EXPORT void swiglu(const ConstMatrixView& gate, const ConstMatrixView& up,
                                const MatrixView& out, cudaStream_t stream);

/// The same as digits, which may take gate's place if its stride is theirs.
TENSOR_PAGER_EXPORT void swiglu(const ConstMatrixView& gate, const ConstMatrixView& up,
                                const DigitsView& out, cudaStream_t stream);

/// The same for products that were kept as operands, times kProductScale; the result is an operand
/// with factors, and may take gate's place. exp is the GPU's fast one, within 2^-21.
TENSOR_PAGER_EXPORT void swiglu(const OperandView& gate, const OperandView& up,
                                const OperandView& out, cudaStream_t stream);

/// y[t, r] += bias[r] for products that were kept as operands, times kProductScale.
TENSOR_PAGER_EXPORT void add_bias(const OperandView& y, const float* bias, cudaStream_t stream);

/// out = a + b; out may be a or b.
TENSOR_PAGER_EXPORT void add(const ConstMatrixView& a, const ConstMatrixView& b,
                             const MatrixView& out, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
