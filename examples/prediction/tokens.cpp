// SPDX-License-Identifier: Apache-2.0
#include "prediction/tokens.hpp"

#include <algorithm>
#include <utility>

#include "prediction/memory.hpp"
#include "qwen/rates.hpp"

namespace tensor_pager::prediction {
namespace {

qwen::MemoryPlan plan_for(const qwen::Model& model, const TokensCase& what) {
  qwen::MemoryRequest request;
  request.vram = what.vram.value_or(GiB(1U << 20));
  if (!what.vram) request.arena = what.arena;
  request.page = what.page;
  request.page_granularity = what.page > Bytes{0} ? what.page : what.granularity;
  request.tokens = 1;
  request.context = 1 + what.tokens;
  request.sequences = what.sequences;
  request.ubatch = 1;
  request.cache_type = what.cache_type;
  return qwen::plan_memory(model, request);
}

bool is_feed_forward(const loaders::Step& step) {
  return step.op == loaders::Op::ffn_gate_up || step.op == loaders::Op::ffn_down;
}

loaders::Places places_of(const loaders::Graph& graph, const GivenPlaces& given) {
  loaders::Places places;
  for (const loaders::Step& step : graph.steps) {
    const bool cpu = is_feed_forward(step) &&
                     std::ranges::find(given.cpu_layers, step.layer) != given.cpu_layers.end();
    places.push_back(cpu ? loaders::Place::cpu : loaders::Place::gpu);
  }
  return places;
}

qwen::GenerationPlaces choose(const qwen::Model& model, const qwen::MemoryPlan& plan,
                              const TokensCase& what) {
  if (what.given) {
    return {.places = places_of(plan.graph, *what.given),
            .prefetch_depth = what.given->prefetch_depth};
  }
  qwen::GenerationPlaces chosen =
      qwen::choose_places(model, plan, what.rates, what.place, {}).places;
  if (chosen.places.empty()) chosen.places.resize(plan.graph.steps.size());
  return chosen;
}

Bytes on_cpu(const loaders::Graph& graph, const loaders::Places& places) {
  double bytes = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (places[i] == loaders::Place::cpu) bytes += qwen::step_weight_bytes(graph.steps[i]);
  }
  return {static_cast<std::uint64_t>(bytes)};
}

}  // namespace

PredictedTokens predict_placed_tokens(const qwen::Model& model, const TokensCase& what) {
  const qwen::MemoryPlan plan = plan_for(model, what);
  const qwen::GenerationPlaces chosen = choose(model, plan, what);
  GenerationCase one{.layout = plan.layout,
                     .arena = plan.decode_arena,
                     .policy = what.policy,
                     .batch = what.sequences,
                     .rates = what.rates,
                     .host = what.host,
                     .map_seconds = what.map_seconds};
  if (chosen.prefetch_depth > 0) one.policy.prefetch_depth = chosen.prefetch_depth;
  return {
      .arena = plan.decode_arena,
      .page = plan.layout.page,
      .beside = beside(model, plan, {what.sequences, what.sequences, what.sequences}),
      .on_cpu = on_cpu(plan.graph, chosen.places),
      .tokens = what.tokens,
      .sequences = what.sequences,
      .token = predict_tokens(plan.graph, model.gguf.tensors(), chosen.places, one, what.tokens)};
}

TokenCost token_cost(const qwen::Model& model, const TokensCase& what) {
  const qwen::MemoryPlan plan = plan_for(model, what);
  return {.weight_bytes = qwen::pass_weight_bytes(plan.graph, {}),
          .steps = static_cast<double>(plan.graph.steps.size())};
}

}  // namespace tensor_pager::prediction
