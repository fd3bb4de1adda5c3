// SPDX-License-Identifier: Apache-2.0
#include "prediction/prefill.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "prediction/machine.hpp"
#include "prediction/memory.hpp"
#include "qwen/rates.hpp"

namespace tensor_pager::prediction {
namespace {

qwen::MemoryPlan plan_for(const qwen::Model& model, const PrefillCase& what) {
  qwen::MemoryRequest request;
  request.vram = what.vram.value_or(GiB(1U << 20));
  if (!what.vram) request.arena = what.arena;
  request.page = what.page;
  request.page_granularity = what.page > Bytes{0} ? what.page : what.granularity;
  request.tokens = what.prompt;
  request.context = what.prompt;
  request.useful_ubatch = what.ubatch;
  if (!what.vram) request.ubatch = std::min(what.ubatch, what.prompt);
  request.cache_type = what.cache_type;
  return qwen::plan_memory(model, request);
}

std::uint32_t ubatches(const qwen::PassSize& size) {
  return (size.tokens + size.ubatch - 1) / size.ubatch;
}

// By step of the schedule.
std::vector<PassCost> step_costs(const qwen::MemoryPlan& plan) {
  std::vector<PassCost> costs;
  for (const loaders::ScheduledStep& entry :
       loaders::schedule(plan.graph, ubatches(plan.prefill))) {
    const loaders::Step& step = plan.graph.steps[entry.step];
    PassCost cost;
    cost.operations = qwen::step_operations(plan.graph, step, plan.prefill, entry.ubatch);
    cost.weight_bytes = qwen::step_weight_bytes(step);
    costs.push_back(cost);
  }
  return costs;
}

MachineModel machine_of(const PrefillCase& what) {
  return {.link = what.link, .copy_latency = 10e-6, .map = what.map_seconds};
}

Prediction predict_passes(const qwen::MemoryPlan& plan, const PrefillCase& what,
                          const std::vector<double>& seconds, const MachineModel& machine) {
  const AccessPlan access = loaders::access_plan(
      plan.graph, {.ubatches = ubatches(plan.prefill), .ubatch_tokens = plan.prefill.ubatch});
  return predict(core_options(plan.layout, plan.arena, what.policy), access, seconds, machine,
                 what.warm_up, what.passes);
}

// Where steps and copies share processors, how slow each is follows from how long the other runs,
// which the prediction itself gives; it is repeated until they agree, as that of generation is.
Prediction predict_on_host(const qwen::MemoryPlan& plan, const PrefillCase& what,
                           const std::vector<double>& alone) {
  constexpr int kRounds = 6;
  const double by_one = host_slowed();
  const double work = std::accumulate(alone.begin(), alone.end(), 0.0) * what.passes;
  const double map = what.map_seconds + kHostMapByte * static_cast<double>(plan.layout.page.count);
  HostLoad load;
  Prediction p;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> seconds = alone;
    for (double& step : seconds) step *= load.slowed_steps(by_one);
    MachineModel machine = machine_of(what);
    machine.map = map * load.slowed_maps(by_one);
    machine.link /= load.slowed_copies(by_one);
    p = predict_passes(plan, what, seconds, machine);
    load = {.steps = std::min(1.0, work * load.slowed_steps(by_one) / p.seconds),
            .copies = std::min(1.0, p.link_busy / p.seconds),
            .maps = std::min(1.0, p.mapping / p.seconds)};
  }
  return p;
}

}  // namespace

PassCost pass_cost(const qwen::Model& model, const PrefillCase& what) {
  PassCost sum;
  for (const PassCost& step : step_costs(plan_for(model, what))) {
    sum.operations += step.operations;
    sum.weight_bytes += step.weight_bytes;
  }
  return sum;
}

PredictedPrefill predict_prefill(const qwen::Model& model, const PrefillCase& what) {
  const qwen::MemoryPlan plan = plan_for(model, what);
  std::vector<double> seconds;
  for (const PassCost& cost : step_costs(plan)) {
    seconds.push_back(cost.operations / what.arithmetic +
                      (what.weights_rate > 0 ? cost.weight_bytes / what.weights_rate : 0));
  }
  return {.arena = plan.arena,
          .page = plan.layout.page,
          .beside = beside(model, plan, plan.prefill),
          .tokens = plan.prefill.tokens * what.passes,
          .prediction = what.host ? predict_on_host(plan, what, seconds)
                                  : predict_passes(plan, what, seconds, machine_of(what))};
}

}  // namespace tensor_pager::prediction
