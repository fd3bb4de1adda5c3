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

/// Positions whose scores a block of the kernel for one token computes.
inline constexpr std::size_t kSplitKeys = 256;

/// Floats that one range of keys leaves for one head: its sum of weighted values, the largest
/// score, and the sum of the weights.
constexpr std::size_t partial_floats(std::size_t head_dim) {
  return head_dim + 2;
}

/// False if there is no kernel for this head_dim. Defined for results that are of the queries'
/// type.
template <class Query, class Out>
bool launch_attention_tiles(const AttentionProblem<Query, Out>& p, std::size_t head_dim,
                            cudaStream_t stream);
template <class Value>
bool launch_attention_splits(const AttentionProblem<Value, Value>& p, std::size_t head_dim,
                             float* partials, cudaStream_t stream);

/// False if there is no kernel for this head_dim, if the current device is not of compute
/// capability 9.0, or if this library was not compiled for sm_90a.
bool launch_attention_hopper(const AttentionProblem<__half, __half>& p, std::size_t head_dim,
                             cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
