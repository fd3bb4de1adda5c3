// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstddef>

namespace tensor_pager::kernels::cuda {

/// What the kernels of attention work on. Queries are float or __half, and so are results.
/// Strides are in elements.
template <class Query, class Out>
struct AttentionProblem {
  const Query* q;
  std::size_t q_stride;
  const __half* keys;
  const __half* values;
  std::size_t position_stride;
  Out* out;
  std::size_t out_stride;
  int tokens, heads, kv_heads, past;
  float scale;  // times log2 e: weights are powers of two
};

/// What a block of the kernel for one token looks at: as many positions, or a multiple of them.
inline constexpr std::size_t kLeastSplitKeys = 64;

/// Ranges that a sequence is divided into, at most: so that, with one for each key/value head, a
/// large GPU's multiprocessors have three blocks each.
constexpr std::size_t most_splits(std::size_t kv_heads) {
  constexpr std::size_t kBlocks = 396;
  return kv_heads < kBlocks ? kBlocks / kv_heads : 1;
}

/// Positions of a range, in a sequence of as many: the ranges depend on nothing else, so that
/// neither do a token's bits.
constexpr std::size_t split_keys(std::size_t positions, std::size_t kv_heads) {
  const std::size_t most = most_splits(kv_heads);
  const std::size_t keys = (positions + most - 1) / most;
  return (keys + kLeastSplitKeys - 1) / kLeastSplitKeys * kLeastSplitKeys;
}

/// Floats that one range of keys leaves for one head, from a multiple of 16 bytes on: its sum of
/// weighted values, the largest score, the sum of the weights, and nothing.
constexpr std::size_t partial_floats(std::size_t head_dim) {
  return head_dim + 4;
}

/// False if there is no kernel for this head_dim. Defined for results that are of the queries'
/// type.
template <class Query, class Out>
bool launch_attention_tiles(const AttentionProblem<Query, Out>& p, std::size_t head_dim,
                            cudaStream_t stream);
template <class Value>
bool launch_attention_splits(const AttentionProblem<Value, Value>& p, std::size_t head_dim,
                             float* partials, cudaStream_t stream);
/// The same, with results in `digits`, a row of kernels/cuda/digits.hpp.
bool launch_attention_splits_to_digits(const AttentionProblem<float, float>& p,
                                       std::size_t head_dim, float* partials, std::byte* digits,
                                       cudaStream_t stream);

/// False if there is no kernel for this head_dim, if the current device is not of compute
/// capability 9.0, or if this library was not compiled for sm_90a.
bool launch_attention_hopper(const AttentionProblem<__half, __half>& p, std::size_t head_dim,
                             cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
