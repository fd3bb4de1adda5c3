// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/matmul.hpp"
#include "loaders/graph.hpp"
#include "pager/backing_store.hpp"
#include "qwen/host_threads.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen {

/// The feed-forward part of a layer for the tokens of an ubatch, computed by processors that read
/// the weights where the store has them in host memory. The same operations as on the host device,
/// in the same order: equal input gives equal bits, however many threads there are.
class HostFeedForward {
 public:
  /// All of them outlive it.
  HostFeedForward(const Model& model, const BackingStore& store, HostThreads& threads);

  /// One step of a layer, an Op::ffn_gate_up or an Op::ffn_down, which follow each other as in the
  /// graph. `residual` [tokens, embedding_length] is the residual stream: the first slice takes its
  /// norm, the last ones add to it. Returns false if it was not numbers then; nothing is computed
  /// from it. Throws Error if the weights have no address (BackingStore::address).
  [[nodiscard]] bool run(const loaders::Step& step, const kernels::MatrixView& residual);

 private:
  bool gate_up(const loaders::Step& step, const kernels::MatrixView& residual);
  void down(const loaders::Step& step, const kernels::MatrixView& residual);
  void reserve(std::size_t tokens);
  const std::byte* data(const loaders::WeightSlice& slice) const;
  kernels::Weights weights(const loaders::WeightSlice& slice) const;
  const float* vector(const loaders::WeightSlice* slice);

  const Model& model_;
  const BackingStore& store_;
  HostThreads& threads_;
  std::size_t widest_ = 0;     // feed_forward_length
  std::vector<float> normed_;  // [tokens, embedding_length]
  std::vector<float> gate_;    // [tokens, feed_forward_length]; then what swiglu makes of it
  std::vector<float> up_;
  std::vector<float> vector_;  // one that is not stored as float32
};

}  // namespace tensor_pager::qwen
