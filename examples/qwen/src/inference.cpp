// SPDX-License-Identifier: Apache-2.0
#include "qwen/inference.hpp"

#include <fmt/format.h>

#include <algorithm>
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

}  // namespace

Inference::Inference(const Model& model, MemoryPlan plan, Backend backend,
                     const InferenceOptions& options)
    : model_(model),
      plan_(std::move(plan)),
      store_(std::move(backend.store)),
      operations_(std::move(backend.operations)),
      pager_(std::move(backend.device), store_, pager_options(model, plan_, options)),
      cache_(model.config, plan_.context, plan_.cache_type, pager_.device()),
      generation_(options.generation) {
  if (std::ranges::count(generation_.places, loaders::Place::cpu) > 0) {
    threads_.emplace(generation_.threads);
    host_.emplace(model_, *store_, *threads_);
  }
  begin_prefill();
  pass_->rehearse();
}

void Inference::begin_prefill() {
  decoding_ = false;
  begin_phase(plan_.prefill, plan_.arena, plan_.scratch);
}

void Inference::prefill(std::span<const loaders::TokenId> tokens, LogitsSink& sink,
                        const PassProgress& progress) {
  if (decoding_) begin_prefill();
  pass_->run(tokens, 0, sink, progress);
  position_ = static_cast<std::uint32_t>(tokens.size());
}

void Inference::decode(loaders::TokenId token, LogitsSink& sink) {
  if (position_ == plan_.context) {
    throw Error(
        fmt::format("the context of {} tokens is full; give a larger --ctx", plan_.context));
  }
  if (!decoding_) {
    decoding_ = true;
    begin_phase({}, plan_.decode_arena, plan_.decode_scratch);
  }
  pass_->run({&token, 1}, position_, sink);
  ++position_;
}

// Memory changes hands such that the sum never exceeds the budget: what shrinks goes first.
void Inference::begin_phase(const PassSize& size, Bytes arena, Bytes scratch) {
  pass_.reset();
  activations_.reset();
  scratch_ = {};
  const Bytes present = pager_.statistics().arena;
  if (arena < present) pager_.set_arena(arena);
  const auto activation_bytes = [this](std::size_t rows, std::size_t cols) {
    return operations_->activation_bytes(rows, cols);
  };
  activations_.emplace(model_.config, size, activation_bytes, pager_.device());
  scratch_ = pager_.device().allocate(scratch);
  operations_->use_scratch(scratch_);
  if (arena > present) pager_.set_arena(arena);
  pass_.emplace(PassResources{model_, plan_.graph, *store_, pager_, *operations_, cache_},
                *activations_, decoding_ ? "generation" : "prefill", places_of_phase());
}

std::optional<PassPlaces> Inference::places_of_phase() {
  if (!decoding_ || !host_) return std::nullopt;
  return PassPlaces{
      .places = generation_.places, .prefetch_depth = generation_.prefetch_depth, .host = &*host_};
}

}  // namespace tensor_pager::qwen
