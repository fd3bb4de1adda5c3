#pragma once

#include <cuda_runtime_api.h>

#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// As cpu::swiglu: out = silu(gate) * up; out may be gate or up. Throws Error if the shapes do not
/// agree or the launch fails, as does the function below.
void swiglu(const ConstMatrixView& gate, const ConstMatrixView& up, const MatrixView& out,
            cudaStream_t stream);

/// out = a + b; out may be a or b.
void add(const ConstMatrixView& a, const ConstMatrixView& b, const MatrixView& out,
         cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
