// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/half_matrix.hpp"
#include "kernels/cuda/rope.hpp"
#include "kernels/export.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// Rows of x as halves, `stride` elements apart. Rounds to nearest, ties to even. Throws Error if
/// the stride is smaller than a row or the launch fails.
TENSOR_PAGER_EXPORT void store_as_half(const ConstMatrixView& x, __half* out, std::size_t stride,
                                       cudaStream_t stream);

/// What puts keys and values of an ubatch, [tokens, heads * head_dim] both, into the cache: keys as
/// rope_to_half() leaves them, which says what holds of both, values as store_as_half() does.
TENSOR_PAGER_EXPORT void store_keys_and_values(
    const ConstMatrixView& keys, const ConstMatrixView& values, std::size_t heads,
    std::size_t first_position, const RopeTableView& table, const HalfMatrixView& cached_keys,
    const HalfMatrixView& cached_values, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
