// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>

#include "kernels/weight_type.hpp"
#include "loaders/graph.hpp"
#include "pager/types.hpp"
#include "qwen/activations.hpp"
#include "qwen/error.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen {

/// A share of the weights: 25 is a quarter of the pages that hold them.
struct Percent {
  double value = 0;
};

/// What a run is going to do, and the memory it may take.
struct MemoryRequest {
  /// All device memory: arena, key-value cache, activations.
  Bytes vram;
  /// Whether somebody asked for `vram`, or it is what happened to be free. For messages.
  bool vram_given = true;
  /// The weights' share. Without it the arena takes what `vram` leaves, but no more than a pass
  /// reads.
  std::optional<std::variant<Bytes, Percent>> arena;
  /// Bytes per page; 0 chooses by the size of the file.
  Bytes page;
  Bytes page_granularity;
  std::uint32_t context = 0;  ///< positions of each sequence in the key-value cache
  /// At a time; generation takes a token of each together.
  std::uint32_t sequences = 1;
  std::uint32_t tokens = 0;  ///< of the prompt; longer ones are taken in pieces of so many
  std::uint32_t wanted = 1;  ///< positions of the prompt whose logits are wanted
  /// Without it, as large as is useful and the memory allows.
  std::optional<std::uint32_t> ubatch;
  /// Beyond this many tokens an ubatch gains nothing: products are bound by arithmetic long before.
  std::uint32_t useful_ubatch = 512;
  kernels::WeightType cache_type = kernels::WeightType::f32;
  /// Operations::activation_bytes; nothing: float32.
  ActivationBytes activation_bytes{};
  /// What the operations need beside the activations (Operations::scratch_bytes); nothing: none.
  std::function<Bytes(const PassSize&)> scratch{};
};

/// How a run divides its memory. The sum of the parts of each phase is at most the budget.
struct MemoryPlan {
  PageLayout layout;
  Bytes budget;
  std::uint32_t context = 0;  ///< of each sequence
  std::uint32_t sequences = 1;
  Bytes kv_cache;  ///< of all sequences
  kernels::WeightType cache_type = kernels::WeightType::f32;
  Bytes scratch;         ///< of the operations, during prefill
  Bytes decode_scratch;  ///< the same during generation
  Bytes arena;           ///< whole pages, during prefill
  PassSize prefill;
  Bytes decode_arena;      ///< whole pages, once prefill's activations have been given back
  bool holds_all = false;  ///< each arena has a frame for every page that a pass reads
  /// The pass, cut so that its steps fit the arena and the next one can be on its way.
  loaders::Graph graph;
};

/// The memory asked for is too small. The message names the option and its exact minimum.
class MemoryError : public Error {
 public:
  MemoryError(const std::string& message, Bytes minimum) : Error(message), minimum_(minimum) {}
  /// The smallest value of the option with which the run is possible.
  Bytes minimum() const { return minimum_; }

 private:
  Bytes minimum_;
};

/// So much of a model's weights, in whole pages.
Bytes share_of_weights(const Model& model, const PageLayout& layout, Percent share);

/// Divides the memory of a run. Nothing is allocated. Throws MemoryError.
MemoryPlan plan_memory(const Model& model, const MemoryRequest& request);

}  // namespace tensor_pager::qwen
