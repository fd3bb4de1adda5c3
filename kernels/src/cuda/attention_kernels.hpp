#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/operand.hpp"

namespace tensor_pager::kernels::cuda {

/// What both kernels of attention work on. Strides are in elements.
struct AttentionProblem {
  const float* q;
  std::size_t q_stride;
  const __half* keys;
  const __half* values;
  std::size_t position_stride;
  float* out;  // or null: the result is kept as operands
  Operand* operands;
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

/// False if there is no kernel for this head_dim.
bool launch_attention_tiles(const AttentionProblem& p, std::size_t head_dim, cudaStream_t stream);
bool launch_attention_splits(const AttentionProblem& p, std::size_t head_dim, float* partials,
                             cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
