// SPDX-License-Identifier: Apache-2.0
#include "prediction/generation.hpp"

#include <algorithm>
#include <vector>

#include "prediction/machine.hpp"

namespace tensor_pager::prediction {
namespace {

using loaders::Place;
using loaders::StepCost;

// The rates settle after two or three; each takes milliseconds.
constexpr int kRounds = 6;

/// A pass with given places, whose rates follow from how long copies and reading take.
class PlacedPass {
 public:
  PlacedPass(const loaders::Graph& graph, std::span<const loaders::TensorInfo> tensors,
             const loaders::Places& places, const GenerationCase& what)
      : graph_(graph),
        places_(places),
        what_(what),
        rates_(loaders::taking_turns(what.rates)),
        costs_(loaders::step_costs(graph, tensors, rates_, what.batch)),
        handover_(loaders::handover_seconds(graph, rates_, what.batch)),
        plan_(loaders::access_plan(graph, {.ubatch_tokens = what.batch}, places)) {
    for (std::size_t i = 0; i < costs_.size(); ++i) {
      const bool cpu = places_[i] == Place::cpu;
      (cpu ? cpu_ : gpu_) += costs_[i];
      if (cpu && begins_unit(i)) ++handovers_;
    }
    // The CPU's share is taken to read beside copies, and they beside it, until it is known better.
    link_ = cpu_.bytes > 0 ? rates_.link.together : rates_.link.alone;
  }

  CoreOptions core() const { return core_options(what_.layout, what_.arena, what_.policy); }
  MachineModel machine() const {
    MachineModel machine{
        .link = link_, .copy_latency = what_.copy_latency, .map = what_.map_seconds};
    if (what_.host) {
      machine.map += kHostMapByte * static_cast<double>(what_.layout.page.count);
      machine.map *= load_.slowed_maps(link_slowed());
    }
    return machine;
  }
  Phase phase(std::uint32_t passes) const { return {plan_, steps(places_), passes}; }
  /// All of it on the device, as of a prompt that is as long as the batch.
  Phase prompt() const {
    const loaders::Places device(places_.size());
    return {loaders::access_plan(graph_, {.ubatch_tokens = what_.batch}, device), steps(device), 1};
  }

  /// Of a pass, from the sum of several. The rates of what is predicted next follow from it.
  PredictedGeneration take(const Prediction& sum, std::uint32_t passes) {
    PredictedGeneration p{.seconds = sum.seconds / passes,
                          .stalled = sum.stalled / passes,
                          .link_busy = sum.link_busy / passes,
                          .gpu = gpu_.gpu * slowed(),
                          .cpu = beside_ * cpu_.cpu_beside + (1 - beside_) * cpu_.cpu_alone,
                          .handover = handover_ * handovers_,
                          .copied = {sum.copied.count / passes}};
    const double reading = cpu_.cpu_memory + (what_.host ? p.gpu : 0);
    beside_ = std::min(1.0, p.link_busy / p.seconds);
    link_ = rates_.link.alone -
            (rates_.link.alone - rates_.link.together) * std::min(1.0, reading / p.seconds);
    if (!what_.host) return p;
    load_ = {.steps = std::min(1.0, reading / p.seconds),
             .copies = beside_,
             .maps = std::min(1.0, sum.mapping / passes / p.seconds)};
    link_ = rates_.link.alone / load_.slowed_copies(link_slowed());
    return p;
  }

 private:
  bool begins_unit(std::size_t i) const {
    const loaders::Step& step = graph_.steps[i];
    return step.op == loaders::Op::ffn_gate_up && step.first_slice;
  }

  // How many times as long the device's steps take for copies beside them.
  double slowed() const {
    if (!what_.host || rates_.cpu.together <= 0) return 1;
    return load_.slowed_steps(rates_.cpu.alone / rates_.cpu.together);
  }

  double link_slowed() const {
    return rates_.link.together > 0 ? rates_.link.alone / rates_.link.together : 1;
  }

  std::vector<TimedStep> steps(const loaders::Places& places) const {
    std::vector<TimedStep> steps;
    for (std::size_t i = 0; i < costs_.size(); ++i) {
      if (places[i] == Place::gpu) {
        steps.push_back({.seconds = costs_[i].gpu * slowed()});
      } else {
        steps.push_back({.seconds = (begins_unit(i) ? handover_ : 0) +
                                    beside_ * costs_[i].cpu_beside +
                                    (1 - beside_) * costs_[i].cpu_alone,
                         .in_plan = false});
      }
    }
    return steps;
  }

  const loaders::Graph& graph_;
  const loaders::Places& places_;
  const GenerationCase& what_;
  const loaders::PlacementRates rates_;
  const std::vector<StepCost> costs_;
  const double handover_;
  const AccessPlan plan_;
  StepCost gpu_;
  StepCost cpu_;
  double handovers_ = 0;
  double beside_ = 1;  // the share of the time in which copies run
  double link_ = 0;
  HostLoad load_{.copies = 1};
};

PredictedGeneration settle(PlacedPass& pass, const GenerationCase& what) {
  PredictedGeneration p;
  for (int round = 0; round < kRounds; ++round) {
    const Phase phase = pass.phase(what.passes);
    p = pass.take(
        predict(pass.core(), phase.plan, phase.steps, pass.machine(), what.warm_up, what.passes),
        what.passes);
  }
  return p;
}

}  // namespace

PredictedGeneration predict_generation(const loaders::Graph& graph,
                                       std::span<const loaders::TensorInfo> tensors,
                                       const loaders::Places& places, const GenerationCase& what) {
  PlacedPass pass(graph, tensors, places, what);
  return settle(pass, what);
}

PredictedGeneration predict_tokens(const loaders::Graph& graph,
                                   std::span<const loaders::TensorInfo> tensors,
                                   const loaders::Places& places, const GenerationCase& what,
                                   std::uint32_t passes) {
  PlacedPass pass(graph, tensors, places, what);
  settle(pass, what);
  std::vector<Phase> phases = {pass.prompt(), pass.phase(passes), pass.phase(passes)};
  phases.back().again = true;
  return pass.take(predict_last(pass.core(), phases, pass.machine()), passes);
}

}  // namespace tensor_pager::prediction
