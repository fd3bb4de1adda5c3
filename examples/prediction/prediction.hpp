// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/core.hpp"
#include "pager/plan.hpp"
#include "pager/policy_options.hpp"
#include "pager/types.hpp"

namespace tensor_pager::prediction {

/// What a machine takes for what a pager commands. Seconds, bytes per second.
struct MachineModel {
  double link = 0;          ///< bytes per second of copies
  double copy_latency = 0;  ///< before the first byte of a copy that finds the link idle
  double map = 0;           ///< to map a page to another frame than it was mapped to
};

/// Passes until what stays in the arena from one to the next is settled; pager_bench --warm runs as
/// many before those that it measures.
constexpr std::uint32_t kWarmUp = 2;

/// What is predicted of the passes that are counted.
struct Prediction {
  double seconds = 0;
  double stalled = 0;  ///< of them, time for which the stream had nothing to do but wait for pages
  double link_busy = 0;
  double mapping = 0;  ///< time for which pages were mapped
  std::uint64_t accesses = 0;
  std::uint64_t hits = 0;
  std::uint64_t loads = 0;
  Bytes copied;
  Bytes optimal;  ///< what Belady's rule would have copied
};

/// Those of a pager with this arena.
CoreOptions core_options(const PageLayout& layout, Bytes arena, const PolicyOptions& policy);

/// A step of a pass: one of the plan, which runs once its pages are there, or one that needs none
/// and that the host computes itself, so that it goes on to the next only when it is done.
struct TimedStep {
  double seconds = 0;
  bool in_plan = true;
};

/// Passes of one plan, one after another. As many of `steps` are in the plan as it has.
struct Phase {
  AccessPlan plan;
  std::vector<TimedStep> steps;
  std::uint32_t passes = 1;
  bool again = false;  ///< the plan of the phase before, which goes on
};

/// Runs passes of a plan through the pager's own core against a clock that only counts: a copy
/// engine that works in order, a stream that runs each step once its pages are there, and a host
/// that takes no time but to map pages, and runs ahead of the stream as the pager lets it.
/// `step_seconds` is by step of the plan. The first `warm_up` passes are not counted; none means
/// that nothing is resident at first.
///
/// Throws BudgetError if the plan does not fit the core's frames.
Prediction predict(const CoreOptions& core, const AccessPlan& plan,
                   const std::vector<double>& step_seconds, const MachineModel& machine,
                   std::uint32_t warm_up, std::uint32_t passes);

/// The same with steps between those of the plan. As many of `steps` are in the plan as it has.
Prediction predict(const CoreOptions& core, const AccessPlan& plan,
                   const std::vector<TimedStep>& steps, const MachineModel& machine,
                   std::uint32_t warm_up, std::uint32_t passes);

/// The same of the last of several phases in one arena: the others are run before it, and it begins
/// with what they left, once all their copies have ended. Its mappings are counted.
Prediction predict_last(const CoreOptions& core, const std::vector<Phase>& phases,
                        const MachineModel& machine);

}  // namespace tensor_pager::prediction
