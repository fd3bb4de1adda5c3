#include "qwen/inference.hpp"

#include <fmt/format.h>

#include <utility>

#include "qwen/cpu_operations.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {

std::unique_ptr<Operations> make_operations(const Device& device) {
  const DeviceInfo info = device.info();
  if (info.kind == "host") return std::make_unique<CpuOperations>();
  throw Error(fmt::format("this build has no kernels for devices of kind {}", info.kind));
}

Inference::Inference(const Model& model, MemoryPlan plan, std::unique_ptr<Device> device,
                     const PolicyOptions& policy, Trace* trace)
    : model_(model),
      plan_(std::move(plan)),
      store_(std::make_shared<MappedFileStore>(model.gguf.paths())),
      operations_(make_operations(*device)),
      pager_(std::move(device), store_,
             {.arena = plan_.arena, .page = plan_.layout.page, .policy = policy, .trace = trace}),
      cache_(model.config, plan_.context, pager_.device()) {}

void Inference::prefill(std::span<const loaders::TokenId> tokens, LogitsSink& sink,
                        const PassProgress& progress) {
  if (!pass_ || decoding_) {
    decoding_ = false;
    begin_phase(plan_.prefill, plan_.arena);
  }
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
    begin_phase({}, plan_.decode_arena);
  }
  pass_->run({&token, 1}, position_, sink);
  ++position_;
}

// Memory changes hands such that the sum never exceeds the budget: what shrinks goes first.
void Inference::begin_phase(const PassSize& size, Bytes arena) {
  former_compute_time_ = compute_time();
  pass_.reset();
  activations_.reset();
  const Bytes present = pager_.statistics().arena;
  if (arena < present) pager_.set_arena(arena);
  activations_.emplace(model_.config, size, pager_.device());
  if (arena > present) pager_.set_arena(arena);
  pass_.emplace(PassResources{model_, plan_.graph, *store_, pager_, *operations_, cache_},
                *activations_);
}

std::chrono::nanoseconds Inference::compute_time() const {
  return former_compute_time_ + (pass_ ? pass_->compute_time() : std::chrono::nanoseconds{});
}

}  // namespace tensor_pager::qwen
