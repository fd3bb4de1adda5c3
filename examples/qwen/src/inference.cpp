// SPDX-License-Identifier: Apache-2.0
#include "qwen/inference.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

PagerOptions pager_options(const Model& model, const MemoryPlan& plan,
                           const InferenceOptions& options) {
  PagerOptions pager{.arena = plan.arena,
                     .page = plan.layout.page,
                     .policy = options.policy,
                     .trace = options.trace,
                     .title = display_name(model),
                     .publish = options.publish};
  for (const loaders::TensorInfo& tensor : model.gguf.tensors()) {
    pager.names.push_back({tensor.name, tensor.bytes});
  }
  return pager;
}

// Each place is one sequence's.
void require_different(std::span<const Stretch> stretches) {
  std::set<std::uint32_t> places;
  for (const Stretch& stretch : stretches) places.insert(stretch.place);
  if (!stretches.empty() && places.size() == stretches.size()) return;
  throw std::invalid_argument("one token or more is advanced by, each of another sequence");
}

std::unique_ptr<Device> device_for(const MemoryPlan& plan, Backend& backend) {
  if (plan.holds_all && backend.in_place) return backend.in_place();
  return std::move(backend.device);
}

}  // namespace

Inference::Inference(const Model& model, MemoryPlan plan, Backend backend,
                     const InferenceOptions& options)
    : model_(model),
      plan_(std::move(plan)),
      store_(std::move(backend.store)),
      operations_(std::move(backend.operations)),
      pager_(device_for(plan_, backend), store_, pager_options(model, plan_, options)),
      cache_(model.config, {plan_.sequences, plan_.context}, plan_.cache_type, pager_.device()),
      sequences_(plan_.sequences, plan_.context),
      generation_(options.generation) {
  if (std::ranges::count(generation_.places, loaders::Place::cpu) > 0) {
    threads_.emplace(generation_.threads);
    host_.emplace(model_, *store_, *threads_);
  }
  begin_phase(Phase::prefill, plan_.prefill);
  pass_->rehearse();
}

SequenceId Inference::fork(SequenceId from) {
  const SequenceId sequence = sequences_.fork(from);
  cache_.copy(from.place, sequence.place, sequences_.tokens(from).size(), *operations_);
  return sequence;
}

std::size_t Inference::rewind_to_common(SequenceId sequence,
                                        std::span<const loaders::TokenId> prompt) {
  const std::size_t most = prompt.empty() ? 0 : prompt.size() - 1;
  const std::size_t common = common_beginning(sequences_.tokens(sequence), prompt.first(most));
  sequences_.rewind(sequence, common);
  return common;
}

void Inference::extend(SequenceId sequence, std::span<const loaders::TokenId> tokens,
                       LogitsSink& sink, const PassProgress& progress) {
  if (tokens.empty()) throw std::invalid_argument("a sequence is extended by at least one token");
  sequences_.require_room(sequence, tokens.size());
  const std::size_t piece = plan_.prefill.tokens;
  const std::size_t pieces = (tokens.size() + piece - 1) / piece;
  const std::size_t before = sequences_.tokens(sequence).size();
  NoLogits nowhere;
  try {
    for (std::size_t i = 0; i < pieces; ++i) {
      const auto part = tokens.first(tokens.size() - (pieces - 1 - i) * piece)
                            .subspan(sequences_.tokens(sequence).size() - before);
      const auto part_progress = [&](std::size_t done, std::size_t total) {
        if (progress) progress(i * total + done, pieces * total);
      };
      const bool last = i + 1 == pieces;
      prefill_piece(sequence, part, last ? sink : nowhere, part_progress);
    }
  } catch (...) {
    sequences_.rewind(sequence, before);
    throw;
  }
}

void Inference::prefill_piece(SequenceId sequence, std::span<const loaders::TokenId> tokens,
                              LogitsSink& sink, const PassProgress& progress) {
  const auto count = static_cast<std::uint32_t>(tokens.size());
  const PassSize& whole = plan_.prefill;
  begin_phase(Phase::prefill,
              {count, std::min(whole.ubatch, count), std::min(whole.wanted, count)});
  const Stretch stretch{sequence.place, sequences_.tokens(sequence).size(), count};
  pass_->run(tokens, {&stretch, 1}, sink, progress);
  sequences_.append(sequence, tokens);
}

void Inference::advance(std::span<const NextToken> next, LogitsSink& sink) {
  std::vector<loaders::TokenId> tokens;
  std::vector<Stretch> stretches;
  for (const NextToken& one : next) {
    sequences_.require_room(one.sequence, 1);
    tokens.push_back(one.token);
    stretches.push_back({one.sequence.place, sequences_.tokens(one.sequence).size(), 1});
  }
  require_different(stretches);
  const auto count = static_cast<std::uint32_t>(next.size());
  begin_phase(Phase::generation, {count, count, count});
  pass_->run(tokens, stretches, sink);
  for (const NextToken& one : next) sequences_.append(one.sequence, {&one.token, 1});
}

namespace {

constexpr std::size_t kStaged = std::size_t{4} << 20;

// In parts that a buffer holds.
void for_parts(std::span<std::byte> piece, const std::function<void(std::span<std::byte>)>& run) {
  for (std::size_t at = 0; at < piece.size(); at += kStaged) {
    run(piece.subspan(at, std::min(kStaged, piece.size() - at)));
  }
}

}  // namespace

void Inference::read_cache(SequenceId sequence,
                           const std::function<void(std::span<const std::byte>)>& take) {
  std::vector<std::byte> buffer(kStaged);
  for (const auto piece : cache_.pieces(sequence.place, tokens(sequence).size())) {
    for_parts(piece, [&](std::span<std::byte> part) {
      const std::span<std::byte> staged = std::span(buffer).first(part.size());
      operations_->to_host(part.data(), staged);
      take(staged);
    });
  }
}

void Inference::restore(SequenceId sequence, std::span<const loaders::TokenId> tokens,
                        const std::function<void(std::span<std::byte>)>& fill) {
  if (!this->tokens(sequence).empty()) {
    throw std::invalid_argument("a sequence is restored before it is extended");
  }
  sequences_.require_room(sequence, tokens.size());
  std::vector<std::byte> buffer(kStaged);
  for (const auto piece : cache_.pieces(sequence.place, tokens.size())) {
    for_parts(piece, [&](std::span<std::byte> part) {
      const std::span<std::byte> staged = std::span(buffer).first(part.size());
      fill(staged);
      operations_->to_device(staged, part.data());
    });
  }
  sequences_.append(sequence, tokens);
}

void Inference::prefill(std::span<const loaders::TokenId> tokens, LogitsSink& sink,
                        const PassProgress& progress) {
  if (!only_) only_ = begin();
  rewind(*only_, 0);
  extend(*only_, tokens, sink, progress);
}

void Inference::decode(loaders::TokenId token, LogitsSink& sink) {
  if (!only_) only_ = begin();
  const NextToken next{*only_, token};
  advance({&next, 1}, sink);
}

std::uint32_t Inference::position() const {
  return only_ ? static_cast<std::uint32_t>(tokens(*only_).size()) : 0;
}

// Memory changes hands such that the sum never exceeds the budget: what shrinks goes first.
void Inference::begin_phase(Phase phase, const PassSize& size) {
  if (pass_ && phase == phase_ && size == activations_->size()) return;
  pass_.reset();
  activations_.reset();
  scratch_ = {};
  phase_ = phase;
  const bool generation = phase == Phase::generation;
  const Bytes arena = generation ? plan_.decode_arena : plan_.arena;
  const Bytes present = pager_.statistics().arena;
  if (arena < present) pager_.set_arena(arena);
  const auto activation_bytes = [this](std::size_t rows, std::size_t cols) {
    return operations_->activation_bytes(rows, cols);
  };
  activations_.emplace(model_.config, size, activation_bytes, pager_.device());
  scratch_ = pager_.device().allocate(generation ? plan_.decode_scratch : plan_.scratch);
  operations_->begin_passes(size, scratch_);
  if (arena > present) pager_.set_arena(arena);
  pass_.emplace(PassResources{model_, plan_.graph, *store_, pager_, *operations_, cache_},
                *activations_, generation ? "generation" : "prefill", places_of_phase());
  pass_->keep_leases(kept_leases());
}

// A sixteenth of the arena at most, so that it can be made smaller meanwhile.
Bytes Inference::kept_leases() const {
  constexpr std::uint64_t kShare = 16;
  return plan_.holds_all ? Bytes{plan_.decode_arena.count / kShare} : Bytes{};
}

// A phase that places steps on processors has fewer steps, so the whole graph's are looked at.
void Inference::resize_arena(Bytes arena) {
  const AccessPlan all = loaders::access_plan(plan_.graph, {.ubatches = 1, .ubatch_tokens = 1},
                                              loaders::Places(plan_.graph.steps.size()));
  const Bytes least = tensor_pager::minimum_arena(plan_.layout, all);
  if (arena < least) {
    throw BudgetError(fmt::format("the arena of {} cannot hold the largest step; give it at least "
                                  "{} bytes",
                                  to_string(arena), least.count),
                      least);
  }
  const Bytes whole{std::min(arena / plan_.layout.page, std::uint64_t{plan_.layout.page_count()}) *
                    plan_.layout.page.count};
  pager_.set_arena(whole);
  plan_.holds_all = plan_.holds_all && whole >= std::min(plan_.arena, plan_.decode_arena);
  plan_.arena = whole;
  plan_.decode_arena = whole;
  if (pass_) pass_->keep_leases(kept_leases());
}

std::optional<PassPlaces> Inference::places_of_phase() {
  if (phase_ == Phase::prefill || !host_) return std::nullopt;
  return PassPlaces{
      .places = generation_.places, .prefetch_depth = generation_.prefetch_depth, .host = &*host_};
}

}  // namespace tensor_pager::qwen
