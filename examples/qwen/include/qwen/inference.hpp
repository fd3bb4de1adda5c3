// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
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
#include "qwen/sequences.hpp"

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

/// The next token of a sequence.
struct NextToken {
  SequenceId sequence;
  loaders::TokenId token = 0;
};

/// A model on a device, and sequences of tokens in its key-value cache. Prefill and generation are
/// phases of their own, with their own buffers, plan and arena; a phase begins when a call needs
/// it, and with what is resident.
///
/// A sequence is begun, extended by a prompt, advanced by a token at a time, forked and ended. Its
/// logits do not depend on the other sequences, down to the last bit on the host device; on a GPU
/// those of up to eight that are advanced together have other bits than those of more. Where a call
/// throws, the sequences are as they were before.
///
/// Not for several threads at once, but for set_arena.
class Inference {
 public:
  /// `model` outlives it. Throws what Pager and its device throw.
  Inference(const Model& model, MemoryPlan plan, Backend backend,
            const InferenceOptions& options = {});

  /// An empty sequence. Throws Error if there are MemoryPlan::sequences of them.
  SequenceId begin() { return sequences_.begin(); }
  /// Another with the same beginning, which is copied. Throws Error likewise.
  SequenceId fork(SequenceId from);
  void end(SequenceId sequence) { sequences_.end(sequence); }
  /// Goes back to the first `length` tokens.
  void rewind(SequenceId sequence, std::size_t length) { sequences_.rewind(sequence, length); }
  /// Goes back to what the sequence and `prompt` both begin with, but leaves one token of the
  /// prompt at least; says how many tokens are left of the sequence. What is to be extended by is
  /// the rest of the prompt.
  std::size_t rewind_to_common(SequenceId sequence, std::span<const loaders::TokenId> prompt);
  /// What the sequence consists of. Valid until the sequence changes.
  std::span<const loaders::TokenId> tokens(SequenceId sequence) const {
    return sequences_.tokens(sequence);
  }

  /// Appends at least one token, in pieces of as many as the plan's prefill has, whole ones last.
  /// The logits of the last PassSize::wanted of them, or of all if they are fewer, go to `sink`.
  /// Throws Error if the context has no room, and what ForwardPass::run throws.
  void extend(SequenceId sequence, std::span<const loaders::TokenId> tokens, LogitsSink& sink,
              const PassProgress& progress = {});

  /// Appends a token to each of several sequences; the logits of `next[i]` go to `sink` as those of
  /// wanted position i. The first call gives prefill's buffers back to the arena. Throws Error if a
  /// context is full, and what ForwardPass::run throws.
  void advance(std::span<const NextToken> next, LogitsSink& sink);

  /// Keys and values of a sequence: what the device has of them, in pieces, in an order that
  /// depends on the model and the number of tokens alone.
  void read_cache(SequenceId sequence, const std::function<void(std::span<const std::byte>)>& take);
  /// Makes an empty sequence one of these tokens, with keys and values that `fill` gives piece by
  /// piece as read_cache has them. If it throws, the sequence stays empty. Throws Error if the
  /// context has no room.
  void restore(SequenceId sequence, std::span<const loaders::TokenId> tokens,
               const std::function<void(std::span<std::byte>)>& fill);

  /// For a program with one sequence: begins it anew and extends it.
  void prefill(std::span<const loaders::TokenId> tokens, LogitsSink& sink,
               const PassProgress& progress = {});
  /// Advances it.
  void decode(loaders::TokenId token, LogitsSink& sink);
  /// Its length.
  std::uint32_t position() const;

  const Model& model() const { return model_; }
  const BackingStore& store() const { return *store_; }
  std::uint32_t context() const { return plan_.context; }
  const MemoryPlan& plan() const { return plan_; }
  Statistics statistics() const { return pager_.statistics(); }
  /// Waits for copies that are under way, so that the counters agree with one another.
  void settle() { pager_.settle(); }
  /// Operations::host_waits.
  std::uint64_t host_waits() const { return operations_->host_waits(); }
  DeviceInfo device() { return pager_.device().info(); }
  /// Pager::set_arena, until the next phase begins with the plan's own. Any thread may call it
  /// while another is in extend or advance.
  void set_arena(Bytes arena) { pager_.set_arena(arena); }
  /// The same for all phases to come, by whole pages. Throws BudgetError, with the least that will
  /// do, if a step of any of them does not fit; not while another thread is in a call.
  void resize_arena(Bytes arena);
  /// Threads that compute the processors' share of generation; 0 if there is none.
  unsigned host_threads() const { return threads_ ? threads_->count() : 0; }
  Bytes minimum_arena() const { return pager_.minimum_arena(); }
  /// Pager::evict_all.
  void evict_all() { pager_.evict_all(); }

 private:
  enum class Phase : std::uint8_t { prefill, generation };

  void begin_phase(Phase phase, const PassSize& size);
  void prefill_piece(SequenceId sequence, std::span<const loaders::TokenId> tokens,
                     LogitsSink& sink, const PassProgress& progress);
  std::optional<PassPlaces> places_of_phase();
  Bytes kept_leases() const;

  const Model& model_;
  MemoryPlan plan_;
  std::shared_ptr<const BackingStore> store_;
  std::unique_ptr<Operations> operations_;
  Pager pager_;
  KvCache cache_;
  Sequences sequences_;
  std::optional<SequenceId> only_;  // the one of prefill and decode
  GenerationPlaces generation_;
  std::optional<HostThreads> threads_;  // if generation has steps on the processors
  std::optional<HostFeedForward> host_;
  std::optional<Activations> activations_;
  DeviceBuffer scratch_;
  std::optional<ForwardPass> pass_;
  Phase phase_ = Phase::prefill;
};

}  // namespace tensor_pager::qwen
