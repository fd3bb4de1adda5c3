// SPDX-License-Identifier: Apache-2.0
#include "qwen/memory_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "pager/pager.hpp"
#include "qwen/kv_cache.hpp"

namespace tensor_pager::qwen {
namespace {

// A step is at most this share of the arena, so that the next ones can be brought in beside it.
constexpr std::uint64_t kStepsInArena = 8;
constexpr Bytes kLargestStep = MiB(128);
// Where nothing is copied while the model runs, what counts is that there are few steps.
constexpr Bytes kLargestResidentStep = MiB(256);
// What grows with the ubatch gets at most this share of the memory: a quarter.
constexpr std::uint64_t kActivationShare = 4;

std::string exact(Bytes bytes) {
  return fmt::format("{} bytes ({})", bytes.count, to_string(bytes));
}

std::string positions(const MemoryRequest& request) {
  if (request.sequences == 1) return fmt::format("{}", request.context);
  return fmt::format("{} sequences of {}", request.sequences, request.context);
}

std::uint64_t pages_of_weights(const Model& model, const PageLayout& layout) {
  std::set<std::uint64_t> pages;
  for (const loaders::TensorInfo& tensor : model.gguf.tensors()) {
    if (tensor.bytes.size.count == 0) continue;
    const std::uint64_t last = (tensor.bytes.end() - Bytes{1}) / layout.page;
    for (std::uint64_t page = tensor.bytes.offset / layout.page; page <= last; ++page) {
      pages.insert(page);
    }
  }
  return pages.size();
}

class Planner {
 public:
  Planner(const Model& model, const MemoryRequest& request)
      : model_(model),
        request_(request),
        layout_{model.gguf.image_bytes(), page_size()},
        kv_cache_(KvCache::bytes(model.config, {request.sequences, request.context},
                                 request.cache_type)) {}

  MemoryPlan plan() const {
    // Cut as finely as possible: what cannot run this way cannot run at all.
    const Bytes smallest = minimum_arena(cut(Bytes{1}));
    const std::optional<Bytes> asked = asked_arena(smallest);
    const std::uint32_t ubatch = choose_ubatch(asked.value_or(smallest));
    const Bytes activations = activation_bytes(ubatch);
    const Bytes everything = layout_.page * pages_read();
    const auto share = [&](Bytes rest) {
      return asked.value_or(std::min(whole(rest), everything));
    };

    MemoryPlan plan;
    plan.layout = layout_;
    plan.budget = request_.vram;
    plan.context = request_.context;
    plan.sequences = request_.sequences;
    plan.kv_cache = kv_cache_;
    plan.cache_type = request_.cache_type;
    plan.scratch = phase_scratch({request_.tokens, ubatch, request_.wanted});
    plan.decode_scratch = phase_scratch(all_sequences());
    plan.prefill = {request_.tokens, ubatch, request_.wanted};
    plan.arena = share(request_.vram - kv_cache_ - activations);
    plan.decode_arena = share(request_.vram - kv_cache_ - decode_bytes());
    plan.holds_all = std::min(plan.arena, plan.decode_arena) >= everything;
    plan.graph = cut_for(plan.arena, plan.holds_all ? kLargestResidentStep : kLargestStep);
    return plan;
  }

 private:
  Bytes page_size() const {
    if (request_.page.count == 0) {
      return default_page_size(model_.gguf.image_bytes(), request_.page_granularity);
    }
    const std::uint64_t granularity = request_.page_granularity.count;
    if (request_.page.count % granularity == 0) return request_.page;
    throw Error(fmt::format(
        "pages of {} are not a multiple of the device's granularity; give a multiple of {}",
        request_.page.count, exact({granularity})));
  }

  loaders::Graph cut(Bytes max_step) const {
    return loaders::build_graph(model_.gguf, {.max_step_bytes = max_step});
  }

  Bytes minimum_arena(const loaders::Graph& graph) const {
    return tensor_pager::minimum_arena(layout_, loaders::access_plan(graph, {.ubatches = 1}));
  }

  // Steps as large as leaves room for the next ones; smaller, if page boundaries ask for it.
  loaders::Graph cut_for(Bytes arena, Bytes most) const {
    Bytes limit = std::min(most, Bytes{arena.count / kStepsInArena});
    for (;; limit.count /= 2) {
      loaders::Graph graph = cut(std::max(limit, Bytes{1}));
      if (limit.count <= 1 || minimum_arena(graph) <= arena) return graph;
    }
  }

  Bytes whole(Bytes bytes) const { return layout_.page * (bytes / layout_.page); }

  // Pages of everything that a pass reads.
  std::uint64_t pages_read() const {
    std::set<PageIndex> pages;
    for (const loaders::Step& step : cut(kLargestStep).steps) {
      const std::vector<PageIndex> read = pages_of(layout_, loaders::reads(step));
      pages.insert(read.begin(), read.end());
    }
    return pages.size();
  }

  // The arena that was asked for, in whole pages.
  std::optional<Bytes> asked_arena(Bytes smallest) const {
    if (!request_.arena) return std::nullopt;
    const auto* share = std::get_if<Percent>(&*request_.arena);
    const Bytes asked = share != nullptr ? share_of_weights(model_, layout_, *share)
                                         : std::get<Bytes>(*request_.arena);
    // Frames beyond the weights would hold nothing.
    if (asked >= smallest) {
      return whole(std::min(asked, layout_.page * pages_of_weights(model_, layout_)));
    }
    throw MemoryError(
        fmt::format("--arena {} is too small: the largest step of this model needs {} of weights "
                    "at once, in pages of {}; give --arena {} or more",
                    exact(asked), exact(smallest), to_string(layout_.page), smallest.count),
        smallest);
  }

  // What prefill needs beside weights and cache, also for a prompt that is shorter.
  Bytes activation_bytes(std::uint32_t ubatch) const {
    return phase_bytes({request_.tokens, ubatch, request_.wanted});
  }

  // One token alone takes another form than several, for which operations may need more. They get
  // what either needs for the whole phase, so the sum of both is what it takes.
  Bytes phase_bytes(const PassSize& most) const {
    return std::max(layout_bytes(most), layout_bytes({})) + phase_scratch(most);
  }

  Bytes phase_scratch(const PassSize& most) const { return std::max(scratch(most), scratch({})); }

  Bytes layout_bytes(const PassSize& size) const {
    return ActivationLayout(model_.config, size, request_.activation_bytes).bytes();
  }

  // A token of each sequence.
  PassSize all_sequences() const {
    return {request_.sequences, request_.sequences, request_.sequences};
  }

  Bytes decode_bytes() const { return phase_bytes(all_sequences()); }

  Bytes scratch(const PassSize& size) const {
    return request_.scratch ? request_.scratch(size) : Bytes{};
  }

  Bytes largest_phase(std::uint32_t ubatch) const {
    return std::max(activation_bytes(ubatch), decode_bytes());
  }

  // `arena` is the least that the weights get.
  std::uint32_t choose_ubatch(Bytes arena) const {
    const auto fits = [&](std::uint32_t ubatch) {
      return arena + kv_cache_ + largest_phase(ubatch) <= request_.vram;
    };
    if (request_.ubatch) {
      const std::uint32_t ubatch = std::min(*request_.ubatch, request_.tokens);
      if (!fits(ubatch)) throw too_small(arena, ubatch);
      return ubatch;
    }
    std::uint32_t ubatch = std::min(request_.useful_ubatch, request_.tokens);
    const auto modest = [&](std::uint32_t u) {
      const Bytes for_ubatch = activation_bytes(u) - activation_bytes(1);
      return request_.arena || for_ubatch.count <= request_.vram.count / kActivationShare;
    };
    while (ubatch > 1 && !(fits(ubatch) && modest(ubatch))) ubatch /= 2;
    if (!fits(ubatch)) throw too_small(arena, ubatch);
    return ubatch;
  }

  MemoryError too_small(Bytes arena, std::uint32_t ubatch) const {
    const Bytes minimum = arena + kv_cache_ + largest_phase(ubatch);
    const std::string needs = fmt::format(
        "this run needs at least {}: arena {}, key-value cache {} ({} positions), activations {}",
        exact(minimum), to_string(arena), to_string(kv_cache_), positions(request_),
        to_string(largest_phase(ubatch)));
    if (request_.vram_given) {
      return {fmt::format("--vram {} is too small: {}; give --vram {} or more",
                          exact(request_.vram), needs, minimum.count),
              minimum};
    }
    return {fmt::format("--vram auto found {} to use, which is too little: {}; free memory, or "
                        "ask for a shorter context, fewer tokens at a time or a smaller arena",
                        exact(request_.vram), needs),
            minimum};
  }

  const Model& model_;
  const MemoryRequest& request_;
  PageLayout layout_;
  Bytes kv_cache_;
};

}  // namespace

Bytes share_of_weights(const Model& model, const PageLayout& layout, Percent share) {
  const auto all = static_cast<double>(pages_of_weights(model, layout));
  return layout.page * static_cast<std::uint64_t>(std::ceil(all * share.value / 100));
}

MemoryPlan plan_memory(const Model& model, const MemoryRequest& request) {
  return Planner(model, request).plan();
}

}  // namespace tensor_pager::qwen
