// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/attention.hpp"
#include "kernels/cuda/digits.hpp"
#include "kernels/cuda/half_matrix.hpp"
#include "kernels/cuda/matmul.hpp"
#include "kernels/export.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// Scratch that attention of this shape needs over a cache of this type: partial sums of a single
/// token, and the halves of a cache that holds float32. That for a longer past is never less.
[[nodiscard]] TENSOR_PAGER_EXPORT std::size_t attention_scratch_bytes(const AttentionShape& shape,
                                                                      WeightType cache_type);

/// As cpu::attention, for heads of 64, 128 or 256 dimensions. The cache is f16 (read as it is: keys
/// and values at multiples of 16 bytes, position_stride a multiple of 8) or f32 (rounded to f16 for
/// each call). Queries and softmax weights are rounded to f16; sums and softmax are float32.
///
/// Blocks of keys start at position 0 whatever `past` is, so the bits of out[t, h] do not depend on
/// how a prompt is cut into ubatches of two tokens or more. A single token goes another way: ranges
/// of keys in parallel, whose results are added in order.
///
/// Throws Error if the shapes do not agree, if the scratch is too small (naming what is needed), or
/// if a launch fails.
TENSOR_PAGER_EXPORT void attention(const AttentionShape& shape, const ConstMatrixView& q,
                                   const KvCacheView& cache, const MatrixView& out,
                                   const Scratch& scratch, cudaStream_t stream);

/// The same of one token, with results as what products of a few tokens read.
TENSOR_PAGER_EXPORT void attention(const AttentionShape& shape, const ConstMatrixView& q,
                                   const KvCacheView& cache, const DigitsView& out,
                                   const Scratch& scratch, cudaStream_t stream);

/// The same for queries that are halves already, and with each result rounded to half once. Rows of
/// q and out begin at multiples of 16 bytes. On a GPU of compute capability 9.0, for two tokens or
/// more, it has a kernel of its own: twice as fast, and with bits of its own.
TENSOR_PAGER_EXPORT void attention(const AttentionShape& shape, const ConstHalfMatrixView& q,
                                   const KvCacheView& cache, const HalfMatrixView& out,
                                   const Scratch& scratch, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
