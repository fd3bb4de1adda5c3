// SPDX-License-Identifier: Apache-2.0
#include "prediction/generation.hpp"

#include <algorithm>
#include <vector>

namespace tensor_pager::prediction {
namespace {

using loaders::Place;
using loaders::StepCost;

// The rates settle after two or three; each takes milliseconds.
constexpr int kRounds = 6;

/// What a pass is made of, while rates are being found.
struct Pass {
  StepCost gpu;
  StepCost cpu;
  double handovers = 0;
};

Pass sum_up(const loaders::Graph& graph, const loaders::Places& places,
            const std::vector<StepCost>& costs) {
  Pass pass;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    const bool cpu = places[i] == Place::cpu;
    (cpu ? pass.cpu : pass.gpu) += costs[i];
    if (cpu && graph.steps[i].op == loaders::Op::ffn_gate_up && graph.steps[i].first_slice)
      ++pass.handovers;
  }
  return pass;
}

// `beside` is the share of the CPU's time in which copies run.
std::vector<TimedStep> timed(const loaders::Graph& graph, const loaders::Places& places,
                             const std::vector<StepCost>& costs, double handover, double beside) {
  std::vector<TimedStep> steps;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (places[i] == Place::gpu) {
      steps.push_back({.seconds = costs[i].gpu});
      continue;
    }
    const loaders::Step& step = graph.steps[i];
    const bool first = step.op == loaders::Op::ffn_gate_up && step.first_slice;
    steps.push_back({.seconds = (first ? handover : 0) + beside * costs[i].cpu_beside +
                                (1 - beside) * costs[i].cpu_alone,
                     .in_plan = false});
  }
  return steps;
}

}  // namespace

PredictedGeneration predict_generation(const loaders::Graph& graph,
                                       std::span<const loaders::TensorInfo> tensors,
                                       const loaders::Places& places, const GenerationCase& what) {
  const loaders::PlacementRates rates = loaders::taking_turns(what.rates);
  const std::vector<StepCost> costs = loaders::step_costs(graph, tensors, rates, what.batch);
  const double handover = loaders::handover_seconds(graph, rates, what.batch);
  const AccessPlan plan = loaders::access_plan(graph, {.ubatch_tokens = what.batch}, places);
  const Pass pass = sum_up(graph, places, costs);

  PredictedGeneration p{.gpu = pass.gpu.gpu, .handover = handover * pass.handovers};
  double beside = 1;
  double link = pass.cpu.bytes > 0 ? rates.link.together : rates.link.alone;
  for (int round = 0; round < kRounds; ++round) {
    const Prediction sum =
        predict(core_options(what.layout, what.arena, what.policy), plan,
                timed(graph, places, costs, handover, beside),
                {.link = link, .copy_latency = what.copy_latency, .map = what.map_seconds},
                what.warm_up, what.passes);
    p.seconds = sum.seconds / what.passes;
    p.stalled = sum.stalled / what.passes;
    p.link_busy = sum.link_busy / what.passes;
    p.copied = {sum.copied.count / what.passes};
    p.cpu = beside * pass.cpu.cpu_beside + (1 - beside) * pass.cpu.cpu_alone;
    const double reading = std::min(1.0, pass.cpu.cpu_memory / p.seconds);
    beside = std::min(1.0, p.link_busy / p.seconds);
    link = rates.link.alone - (rates.link.alone - rates.link.together) * reading;
  }
  return p;
}

}  // namespace tensor_pager::prediction
