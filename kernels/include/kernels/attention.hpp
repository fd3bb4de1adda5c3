// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "kernels/export.hpp"
#include "kernels/instruction_set.hpp"
#include "kernels/matrix_view.hpp"
#include "kernels/weight_type.hpp"

namespace tensor_pager::kernels {

struct AttentionShape {
  std::size_t tokens = 0;    ///< queries of this ubatch
  std::size_t heads = 0;     ///< query heads; a multiple of kv_heads
  std::size_t kv_heads = 0;  ///< query head h reads key/value head h / (heads / kv_heads)
  std::size_t head_dim = 0;  ///< a multiple of 8, at most 256
  std::size_t past = 0;      ///< positions in the cache before this ubatch
  float scale = 1.0F;        ///< factor on query . key, usually 1 / sqrt(head_dim)
};

/// Keys and values of one layer, each [positions, kv_heads, head_dim] with positions
/// `position_stride` elements apart.
struct KvCacheView {
  WeightType type = WeightType::f32;  ///< f32, f16 or bf16
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  std::size_t position_stride = 0;

  [[nodiscard]] static KvCacheView of(const float* keys, const float* values,
                                      std::size_t position_stride) {
    return {WeightType::f32, reinterpret_cast<const std::byte*>(keys),
            reinterpret_cast<const std::byte*>(values), position_stride};
  }
};

namespace cpu {

/// Causal attention: out[t, h] = sum over positions p <= past + t of softmax_p(scale * q[t, h] .
/// k[p, h']) * v[p, h']. q and out are [tokens, heads * head_dim]; the cache already holds this
/// ubatch's keys and values at positions [past, past + tokens). Softmax is computed online over
/// blocks of keys (Milakov and Gimelshein 2018; Dao et al. 2022).
///
/// Runs on the TBB threads of the caller's arena. Blocks of keys start at position 0 whatever
/// `past` is, so the bits of out[t, h] depend neither on the number of threads nor on how a prompt
/// is cut into ubatches (values being finite). Throws Error if the shapes do not agree.
TENSOR_PAGER_EXPORT void attention(const AttentionShape& shape, const ConstMatrixView& q,
                                   const KvCacheView& cache, const MatrixView& out,
                                   InstructionSet instruction_set = best_instruction_set());

}  // namespace cpu
}  // namespace tensor_pager::kernels
