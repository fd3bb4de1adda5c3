// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loaders/graph.hpp"
#include "loaders/placement.hpp"
#include "loaders/tokenizer.hpp"
#include "pager/pager.hpp"
#include "qwen/activations.hpp"
#include "qwen/host_feed_forward.hpp"
#include "qwen/kv_cache.hpp"
#include "qwen/logits_sink.hpp"
#include "qwen/model.hpp"
#include "qwen/operations.hpp"

namespace tensor_pager::qwen {

/// Called after each step of a pass.
using PassProgress = std::function<void(std::size_t done, std::size_t total)>;

/// What a forward pass works with. Everything outlives it.
struct PassResources {
  const Model& model;
  const loaders::Graph& graph;
  const BackingStore& store;
  Pager& pager;
  Operations& operations;
  const KvCache& cache;
};

/// Tokens of a pass that follow one another in one sequence.
struct Stretch {
  std::uint32_t place = 0;  ///< of the sequence in the cache
  std::size_t past = 0;     ///< positions of the sequence before the first of them
  std::size_t count = 0;
};

/// Which steps of a pass of one ubatch the processors compute, in place of the device.
struct PassPlaces {
  loaders::Places places;
  /// AccessPlan::prefetch_depth; 0: the pager's own.
  std::uint32_t prefetch_depth = 0;
  /// Computes them. Outlives the pass.
  HostFeedForward* host = nullptr;
};

class KeptLeases;

/// Runs a model's steps, layer-major: for each layer, every ubatch of the tokens, and only then the
/// next layer, so that weights cross the link once per prompt. The order is that of the pager's
/// plan, and each step's weights are leased while it computes.
///
/// The result does not depend on the ubatch, the slices, the arena or the other sequences of the
/// pass, down to the last bit.
///
/// Where steps are placed on the processors, the residual stream is lent to them for as long as
/// they compute, and the pager's plan holds the other steps alone: their pages go on being copied
/// meanwhile.
class ForwardPass {
 public:
  /// Gives the pager the plan for passes of this size, and of this name for whoever watches. The
  /// activations are made for the same size. With `places`, which are for one ubatch, throws
  /// std::invalid_argument for another size, or places that are not for this graph.
  ForwardPass(const PassResources& resources, const Activations& activations,
              const std::string& name, std::optional<PassPlaces> places = {});

  /// From now on the leases of steps end together once they cover more than `most` bytes of weights
  /// (at first none), or at the end of a pass: the device need not note the end of every step,
  /// which takes longer than some of them. For an arena in which every page has its place: pages
  /// that others wait for would stay longer than they are read.
  void keep_leases(Bytes most) { most_kept_ = most; }

  /// Runs every kind of step once on whatever is in memory, so that what happens at first use
  /// (loading kernels, choosing algorithms) has happened. The results mean nothing; the next run
  /// overwrites them.
  void rehearse();

  /// Puts the tokens, which are those of the stretches one after another, into the cache, and hands
  /// the logits of the last `wanted` of them (PassSize) to `sink`. As many tokens as the PassSize
  /// says, each sequence at most once. Throws Error that names the layer after which something was
  /// not a number: logits that are none never come to `sink`.
  void run(std::span<const loaders::TokenId> tokens, std::span<const Stretch> stretches,
           LogitsSink& sink, const PassProgress& progress = {});

 private:
  // What an ubatch has of a stretch.
  struct Piece {
    std::size_t row = 0;  // of the ubatch, its first
    std::size_t count = 0;
    std::uint32_t place = 0;
    std::size_t position = 0;  // of the first, in its sequence
  };
  // The tokens that a step works on: [first, first + count) of the pass.
  struct Ubatch {
    std::size_t first = 0;
    std::size_t count = 0;
    std::vector<Piece> pieces{};
  };

  void cut(std::span<const Stretch> stretches);
  void run_on_nothing(const loaders::Step& step);
  Lease acquire(const loaders::PlacedStep& placed, KeptLeases& kept);
  void gather_embeddings(std::span<const loaders::TokenId> tokens);
  void run_step(const loaders::Step& step, const Ubatch& ubatch, LogitsSink& sink);
  void run_on_host(const loaders::Step& step);

  void attention_input(const loaders::Step& step, const Ubatch& ubatch);
  void finish_heads(const loaders::Step& step, const Ubatch& ubatch);
  void attend(const loaders::Step& step, const Ubatch& ubatch);
  void attention_output(const loaders::Step& step, const Ubatch& ubatch);
  void ffn_gate_up(const loaders::Step& step, const Ubatch& ubatch);
  void ffn_down(const loaders::Step& step, const Ubatch& ubatch);
  void output(const loaders::Step& step, LogitsSink& sink);
  void hand_over(std::size_t first, std::size_t first_token, const kernels::MatrixView& logits,
                 LogitsSink& sink);
  void require_numbers() const;
  void last_logits(const loaders::Step& step, const loaders::WeightSlice& slice,
                   const kernels::MatrixView& h, LogitsSink& sink);

  template <class Out>
  void norm(const loaders::Step& step, loaders::WeightRole role, const kernels::MatrixView& x,
            const Out& out, std::optional<std::uint32_t> stage = {});
  const float* bias(const loaders::Step& step, loaders::WeightRole role);
  bool is_converted(const loaders::Step& step, loaders::WeightRole role) const;
  void norm_heads(const loaders::Step& step, loaders::WeightRole role,
                  const kernels::MatrixView& x);
  const std::byte* data(const loaders::WeightSlice& slice) const;
  kernels::Weights weights(const loaders::WeightSlice& slice) const;
  const float* vector(const loaders::WeightSlice& slice);
  const loaders::WeightSlice& find(const loaders::Step& step, loaders::WeightRole role) const;
  const loaders::LayerConfig& layer(const loaders::Step& step) const;

  PassResources resources_;
  const Activations& activations_;
  kernels::RopeFrequencies frequencies_;
  HostFeedForward* host_ = nullptr;
  Bytes most_kept_{};
  kernels::MatrixView lent_;  // the residual stream, while the processors have it
  std::vector<loaders::PlacedStep> schedule_;
  std::vector<Ubatch> ubatches_;         // of the pass that runs
  const std::byte* stand_in_ = nullptr;  // for all weights, in a rehearsal
};

}  // namespace tensor_pager::qwen
