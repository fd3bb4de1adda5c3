// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "loaders/tokenizer.hpp"
#include "pager/pager.hpp"
#include "qwen/activations.hpp"
#include "qwen/backend.hpp"
#include "qwen/forward_pass.hpp"
#include "qwen/host_threads.hpp"
#include "qwen/kv_cache.hpp"
#include "qwen/logits_sink.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen {

/// Where generation runs.
struct GenerationPlaces {
  /// By step of MemoryPlan::graph. Empty: all on the device.
  loaders::Places places{};
  /// Frames that copies may run ahead by; 0: the pager's own choice.
  std::uint32_t prefetch_depth = 0;
  /// Of the processors' share.
  HostThreadsOptions threads{};
};

struct InferenceOptions {
  PolicyOptions policy{};
  /// Outlives the inference.
  Trace* trace = nullptr;
  /// PagerOptions::publish.
  bool publish = true;
  GenerationPlaces generation{};
};

/// A model on a device, and one sequence of tokens in its key-value cache. Prefill and generation
/// are phases of their own, with their own buffers, plan and arena.
class Inference {
 public:
  /// `model` outlives it. Throws what Pager and its device throw.
  Inference(const Model& model, MemoryPlan plan, Backend backend,
            const InferenceOptions& options = {});

  /// Begins a new sequence with these tokens, as many as the plan's prefill has. The logits of the
  /// last PassSize::wanted of them go to `sink`. Throws what ForwardPass::run throws; a sequence
  /// can then be begun anew.
  void prefill(std::span<const loaders::TokenId> tokens, LogitsSink& sink,
               const PassProgress& progress = {});

  /// Appends one token; its logits go to `sink`. The first call gives prefill's buffers back to the
  /// arena. Throws Error if the context is full, and what ForwardPass::run throws.
  void decode(loaders::TokenId token, LogitsSink& sink);

  std::uint32_t position() const { return position_; }
  std::uint32_t context() const { return plan_.context; }
  const MemoryPlan& plan() const { return plan_; }
  Statistics statistics() const { return pager_.statistics(); }
  /// Waits for copies that are under way, so that the counters agree with one another.
  void settle() { pager_.settle(); }
  /// Operations::host_waits.
  std::uint64_t host_waits() const { return operations_->host_waits(); }
  DeviceInfo device() { return pager_.device().info(); }
  /// Pager::set_arena, until the next phase begins with the plan's own. Any thread may call it
  /// while another is in prefill or decode.
  void set_arena(Bytes arena) { pager_.set_arena(arena); }
  /// Threads that compute the processors' share of generation; 0 if there is none.
  unsigned host_threads() const { return threads_ ? threads_->count() : 0; }
  Bytes minimum_arena() const { return pager_.minimum_arena(); }
  /// Pager::evict_all.
  void evict_all() { pager_.evict_all(); }

 private:
  void begin_prefill();
  void begin_phase(const PassSize& size, Bytes arena, Bytes scratch);
  std::optional<PassPlaces> places_of_phase();

  const Model& model_;
  MemoryPlan plan_;
  std::shared_ptr<const BackingStore> store_;
  std::unique_ptr<Operations> operations_;
  Pager pager_;
  KvCache cache_;
  GenerationPlaces generation_;
  std::optional<HostThreads> threads_;  // if generation has steps on the processors
  std::optional<HostFeedForward> host_;
  std::optional<Activations> activations_;
  DeviceBuffer scratch_;
  std::optional<ForwardPass> pass_;
  bool decoding_ = false;
  std::uint32_t position_ = 0;
};

}  // namespace tensor_pager::qwen
