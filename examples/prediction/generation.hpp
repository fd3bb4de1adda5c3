// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "loaders/gguf.hpp"
#include "loaders/graph.hpp"
#include "loaders/placement.hpp"
#include "pager/policy_options.hpp"
#include "pager/types.hpp"
#include "prediction/prediction.hpp"

namespace tensor_pager::prediction {

/// Generation with given places, and the machine that would run it.
struct GenerationCase {
  PageLayout layout{};
  Bytes arena{};
  PolicyOptions policy{};
  std::uint32_t batch = 1;  ///< tokens of a pass
  loaders::PlacementRates rates{};
  /// The device is the processors themselves, so that copies slow its steps as they slow theirs,
  /// and its steps slow copies.
  bool host = false;
  double map_seconds = 0;  ///< to map a page
  double copy_latency = 10e-6;
  std::uint32_t warm_up = kWarmUp;
  std::uint32_t passes = 4;  ///< that are counted
};

/// Of one pass, the mean of those that were counted.
struct PredictedGeneration {
  double seconds = 0;
  double stalled = 0;    ///< of these, the GPU waited for pages
  double link_busy = 0;  ///< copies ran
  double gpu = 0;        ///< the GPU's steps, as slow as copies make them
  double cpu = 0;        ///< the CPU's steps
  double handover = 0;
  Bytes copied{};
};

/// Runs the plan without the CPU's steps through the pager's core, and the CPU's steps between
/// them. Copies and the CPU's reading slow each other down; how much, is averaged over the pass: it
/// is repeated with the rates that follow from the shares of time for which it had each at work.
///
/// Throws BudgetError if a step does not fit the arena.
PredictedGeneration predict_generation(const loaders::Graph& graph,
                                       std::span<const loaders::TensorInfo> tensors,
                                       const loaders::Places& places, const GenerationCase& what);

/// The same of `passes` as pager_bench -n measures them: after a prompt that the device computed,
/// and as many passes that warm up, and once all copies for those to come have ended.
PredictedGeneration predict_tokens(const loaders::Graph& graph,
                                   std::span<const loaders::TensorInfo> tensors,
                                   const loaders::Places& places, const GenerationCase& what,
                                   std::uint32_t passes);

}  // namespace tensor_pager::prediction
