// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <span>

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

/// Where the cache has a token's keys and values, both without gaps.
struct CacheRow {
  __half* keys = nullptr;
  __half* values = nullptr;
};

/// For a few tokens, as many as `rows`, each perhaps of a sequence of its own: queries [tokens,
/// heads * head_dim] as rope() leaves them, keys and values [tokens, kv_heads * head_dim] as
/// store_keys_and_values() does; with the same bits, in one launch. Throws Error if there are more
/// than kMostFewTokens, the shapes do not agree, the table lacks a position, or the launch fails.
TENSOR_PAGER_EXPORT void rotate_and_store(const MatrixView& queries, std::size_t heads,
                                          const ConstMatrixView& keys,
                                          const ConstMatrixView& values, std::size_t kv_heads,
                                          std::size_t first_position, const RopeTableView& table,
                                          std::span<const CacheRow> rows, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
