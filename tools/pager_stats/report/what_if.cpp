// SPDX-License-Identifier: Apache-2.0
#include "report/what_if.hpp"

#include <algorithm>
#include <numeric>
#include <set>

#include "core/core.hpp"
#include "core/policy.hpp"

namespace tensor_pager::pager_stats {
namespace {

constexpr std::uint32_t kWarmPasses = 3;

bool of_plan(const RecordedSpan& span, std::uint32_t plan) {
  return span.position && span.position->plan == plan;
}

/// For each step that was run, in order: when its stream went on to something else. What a host
/// does between two steps delays the second of them as if it were part of the first.
std::vector<double> ends_of_steps(const std::vector<RecordedSpan>& steps,
                                  const std::vector<RecordedSpan>& stalls) {
  std::vector<double> ends;
  auto stall = stalls.begin();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    while (stall != stalls.end() && stall->begin < steps[i].end) ++stall;
    double end = i + 1 < steps.size() ? steps[i + 1].begin : steps[i].end;
    if (stall != stalls.end()) end = std::min(end, stall->begin);
    ends.push_back(std::max(end, steps[i].end));
  }
  return ends;
}

std::vector<RecordedSpan> spans_of(const std::vector<RecordedSpan>& all, std::uint32_t plan) {
  std::vector<RecordedSpan> spans;
  std::ranges::copy_if(all, std::back_inserter(spans),
                       [&](const RecordedSpan& span) { return of_plan(span, plan); });
  return spans;
}

/// Sizes from the smallest arena to one that holds everything, and `own` among them.
std::set<std::uint32_t> sizes(std::uint32_t smallest, std::uint32_t all, std::uint32_t own,
                              std::uint32_t points) {
  std::set<std::uint32_t> sizes{own};
  for (std::uint32_t i = 0; i < points; ++i) {
    const std::uint64_t offset = std::uint64_t{all - smallest} * i / std::max(points - 1, 1U);
    sizes.insert(smallest + static_cast<std::uint32_t>(offset));
  }
  return sizes;
}

std::uint32_t pages_read(const PagePlan& pages) {
  std::set<PageIndex> all;
  for (Position step = 0; step < pages.steps(); ++step) {
    all.insert(pages.pages(step).begin(), pages.pages(step).end());
  }
  return static_cast<std::uint32_t>(all.size());
}

prediction::Prediction mean(prediction::Prediction sum, std::uint32_t passes) {
  sum.seconds /= passes;
  sum.stalled /= passes;
  sum.link_busy /= passes;
  sum.accesses /= passes;
  sum.hits /= passes;
  sum.loads /= passes;
  sum.copied.count /= passes;
  sum.optimal.count /= passes;
  return sum;
}

std::string why_not(const AccessPlan& plan, const MeasuredPlan& measured,
                    const prediction::MachineModel& machine) {
  if (measured.steps_measured == 0) return "no step of this plan was run";
  if (machine.link <= 0) return "nothing was copied, so the rate of the link is not known";
  const bool chosen =
      std::ranges::any_of(plan.steps, [](const PlanStep& step) { return !step.choices.empty(); });
  return chosen ? "what its steps read is chosen at run time" : "";
}

}  // namespace

MeasuredPlan measure(const Recording& recording, std::uint32_t plan) {
  const std::vector<RecordedSpan> steps = spans_of(recording.steps, plan);
  const std::vector<RecordedSpan> stalls = spans_of(recording.stalls, plan);
  const std::vector<double> ends = ends_of_steps(steps, stalls);
  const std::size_t count = recording.plans[plan].plan.steps.size();
  MeasuredPlan measured;
  measured.step_seconds.resize(count);
  std::vector<std::uint32_t> runs(count);
  double sum = 0;
  double began = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const std::uint32_t step = steps[i].position->step.value;
    if (i == 0 || step <= steps[i - 1].position->step.value) ++measured.passes;
    // The gap before a further pass is the caller's time, not the step's.
    const bool last = i + 1 == steps.size() || steps[i + 1].position->step.value <= step;
    const double seconds = (last ? steps[i].end : ends[i]) - steps[i].begin;
    measured.step_seconds[step] += seconds;
    ++runs[step];
    sum += seconds;
    if (measured.passes > 1) continue;
    if (i == 0) began = stalls.empty() ? steps[0].begin : std::min(steps[0].begin, stalls[0].begin);
    measured.first_pass = steps[i].end - began;
  }
  for (std::size_t step = 0; step < count; ++step) {
    if (runs[step] > 0) ++measured.steps_measured;
    measured.step_seconds[step] = runs[step] > 0  ? measured.step_seconds[step] / runs[step]
                                  : steps.empty() ? 0
                                                  : sum / static_cast<double>(steps.size());
  }
  if (!steps.empty()) measured.frames = recording.frames_at(steps[0].begin);
  return measured;
}

WhatIf what_if(const Recording& recording, std::uint32_t plan,
               const prediction::MachineModel& machine, std::uint32_t points) {
  const AccessPlan& access = recording.plans[plan].plan;
  WhatIf out{.plan = plan, .measured = measure(recording, plan)};
  out.why_not = why_not(access, out.measured, machine);
  if (!out.why_not.empty()) return out;
  const PagePlan pages(recording.layout, access);
  const std::uint32_t smallest = pages.largest_step();
  const std::uint32_t all = std::max(pages_read(pages), smallest);
  const std::uint32_t own = std::clamp(out.measured.frames, smallest, all);
  for (const std::uint32_t frames : sizes(smallest, all, own, points)) {
    if (frames == own) out.own = out.points.size();
    CoreOptions core{.layout = recording.layout};
    core.frames = frames;
    core.policy = recording.policy;
    core.pages_per_copy = recording.pages_per_copy;
    const auto& seconds = out.measured.step_seconds;
    out.points.push_back({.frames = frames,
                          .cold = prediction::predict(core, access, seconds, machine, 0, 1),
                          .warm = mean(prediction::predict(core, access, seconds, machine,
                                                           prediction::kWarmUp, kWarmPasses),
                                       kWarmPasses)});
  }
  return out;
}

}  // namespace tensor_pager::pager_stats
