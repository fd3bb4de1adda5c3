// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/export.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// Rows of x as halves, `stride` elements apart: what puts keys or values of an ubatch into the
/// cache. Rounds to nearest, ties to even. Throws Error if the stride is smaller than a row or the
/// launch fails.
TENSOR_PAGER_EXPORT void store_as_half(const ConstMatrixView& x, __half* out, std::size_t stride,
                                       cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
