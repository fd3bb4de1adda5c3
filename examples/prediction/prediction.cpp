// SPDX-License-Identifier: Apache-2.0
#include "prediction/prediction.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <stdexcept>
#include <utility>
#include <variant>

#include "pager/pager.hpp"

namespace tensor_pager::prediction {
namespace {

/// The machine, and the host that drives it.
class Run {
 public:
  Run(const CoreOptions& options, const MachineModel& machine)
      : layout_(options.layout), machine_(machine), core_(options) {}

  /// Mappings that it makes are made before its passes.
  void begin_with(const AccessPlan& plan) {
    core_.set_plan(plan);
    for (const PageRun& run : core_.take_commands().copies) start(run, now_);
  }
  /// Until copies for steps to come have ended, too.
  void rest() {
    while (!copies_.empty() || !passing_.empty()) next_event();
    stream_free_ = std::max(stream_free_, now_);
  }
  /// Between passes. Its mappings take their time.
  void go_on_with(const AccessPlan& plan) {
    core_.set_plan(plan);
    carry_out();
  }

  // At the end of a pass the host waits for its result.
  void pass(const std::vector<TimedStep>& steps) {
    StepIndex next{0};
    for (const TimedStep& step : steps) {
      if (step.in_plan) {
        run_step(next, step.seconds);
        ++next;
      } else {
        run_on_host(step.seconds);
      }
    }
    while (!passing_.empty()) next_event();
  }

  /// What has happened until the stream is done with all steps so far.
  Prediction state() const {
    Prediction p = counted_;
    p.seconds = stream_free_;
    p.accesses = core_.counters().accesses;
    p.hits = core_.counters().hits;
    p.loads = core_.counters().loads;
    p.copied = core_.counters().loaded;
    p.optimal = core_.counters().optimal;
    return p;
  }

 private:
  struct Copy {
    PageRun pages;
    double end = 0;
  };

  // The lease ends as soon as its work is queued: the fence passes when the stream has done it.
  void run_step(StepIndex step, double seconds) {
    const LeaseId lease = core_.acquire(step, {}, CallerId{1});
    carry_out();
    while (core_.state(lease) == LeaseState::queued || core_.state(lease) == LeaseState::blocked) {
      next_event();
    }
    const double start = std::max(stream_free_, pages_there(core_.pages(lease)));
    counted_.stalled += start - std::max(stream_free_, now_);
    stream_free_ = start + seconds;
    const FenceId fence{++fences_};
    passing_.emplace_back(stream_free_, fence);
    core_.release(lease, fence);
    carry_out();
  }

  // What ends meanwhile is seen meanwhile.
  void run_on_host(double seconds) {
    stream_free_ = std::max(stream_free_, now_) + seconds;
    while (next_event_time() <= stream_free_) next_event();
    now_ = stream_free_;
  }

  double pages_there(std::span<const PageIndex> pages) const {
    double time = now_;
    for (const PageIndex page : pages) {
      const auto copy = arrives_.find(page.value);
      if (copy != arrives_.end()) time = std::max(time, copy->second);
    }
    return time;
  }

  void carry_out() {
    while (core_.has_commands()) {
      const Commands commands = core_.take_commands();
      double ready = now_;
      for (const Remap& remap : commands.remaps) {
        if (!std::holds_alternative<MapPage>(remap)) continue;
        ready = maps_free_ = std::max(maps_free_, now_) + machine_.map;
        counted_.mapping += machine_.map;
      }
      for (const PageRun& run : commands.copies) start(run, ready);
    }
  }

  void start(PageRun pages, double ready) {
    const double idle = link_free_ < ready ? machine_.copy_latency : 0;
    const double size = static_cast<double>(layout_.bytes_of(pages.first, pages.count).size.count);
    link_free_ = std::max(link_free_, ready) + idle + size / machine_.link;
    counted_.link_busy += size / machine_.link;
    copies_.push_back({pages, link_free_});
    for (std::uint32_t k = 0; k < pages.count; ++k) arrives_[pages.first.value + k] = link_free_;
  }

  double next_event_time() const {
    double time = std::numeric_limits<double>::infinity();
    if (!copies_.empty()) time = copies_.front().end;
    if (!passing_.empty()) time = std::min(time, passing_.front().first);
    return time;
  }

  // Whatever happens next: a copy ends, or the stream passes a fence.
  void next_event() {
    const bool copy =
        !copies_.empty() && (passing_.empty() || copies_.front().end <= passing_.front().first);
    if (copy) {
      const Copy done = copies_.front();
      copies_.pop_front();
      now_ = std::max(now_, done.end);
      for (std::uint32_t k = 0; k < done.pages.count; ++k) {
        arrives_.erase(done.pages.first.value + k);
        core_.copy_finished({done.pages.first.value + k});
      }
    } else if (!passing_.empty()) {
      const auto [time, fence] = passing_.front();
      passing_.pop_front();
      now_ = std::max(now_, time);
      core_.fence_passed(fence);
    } else {
      throw std::logic_error("a step waits, and nothing is under way");
    }
    carry_out();
  }

  const PageLayout layout_;
  const MachineModel machine_;
  Core core_;
  double now_ = 0;        // of the host
  double maps_free_ = 0;  // one thread maps, one page after another
  double link_free_ = 0;
  double stream_free_ = 0;
  std::deque<Copy> copies_;                         // under way, in order
  std::map<std::uint32_t, double> arrives_;         // by page, while under way
  std::deque<std::pair<double, FenceId>> passing_;  // when the stream passes them, in order
  std::uint64_t fences_ = 0;
  Prediction counted_;
};

Prediction difference(const Prediction& after, const Prediction& before) {
  return {.seconds = after.seconds - before.seconds,
          .stalled = after.stalled - before.stalled,
          .link_busy = after.link_busy - before.link_busy,
          .mapping = after.mapping - before.mapping,
          .accesses = after.accesses - before.accesses,
          .hits = after.hits - before.hits,
          .loads = after.loads - before.loads,
          .copied = after.copied - before.copied,
          .optimal = after.optimal - before.optimal};
}

void require_times(const AccessPlan& plan, const std::vector<TimedStep>& steps,
                   const MachineModel& machine) {
  const auto in_plan = std::ranges::count(steps, true, &TimedStep::in_plan);
  if (plan.steps.size() == static_cast<std::size_t>(in_plan) && machine.link > 0) return;
  throw std::invalid_argument("a prediction needs a time for each step, and a link");
}

}  // namespace

CoreOptions core_options(const PageLayout& layout, Bytes arena, const PolicyOptions& policy) {
  CoreOptions core{.layout = layout};
  core.frames =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(arena / layout.page, layout.page_count()));
  core.policy = policy;
  core.pages_per_copy = pages_per_copy(layout.page);
  return core;
}

Prediction predict(const CoreOptions& core, const AccessPlan& plan,
                   const std::vector<double>& step_seconds, const MachineModel& machine,
                   std::uint32_t warm_up, std::uint32_t passes) {
  std::vector<TimedStep> steps;
  steps.reserve(step_seconds.size());
  for (const double seconds : step_seconds) steps.push_back({.seconds = seconds});
  return predict(core, plan, steps, machine, warm_up, passes);
}

Prediction predict(const CoreOptions& core, const AccessPlan& plan,
                   const std::vector<TimedStep>& steps, const MachineModel& machine,
                   std::uint32_t warm_up, std::uint32_t passes) {
  require_times(plan, steps, machine);
  Run run(core, machine);
  run.begin_with(plan);
  for (std::uint32_t i = 0; i < warm_up; ++i) run.pass(steps);
  const Prediction before = warm_up == 0 ? Prediction{} : run.state();
  for (std::uint32_t i = 0; i < passes; ++i) run.pass(steps);
  return difference(run.state(), before);
}

Prediction predict_last(const CoreOptions& core, const std::vector<Phase>& phases,
                        const MachineModel& machine) {
  Run run(core, machine);
  Prediction before;
  for (const Phase& phase : phases) {
    require_times(phase.plan, phase.steps, machine);
    run.rest();
    before = run.state();
    if (&phase == &phases.front()) {
      run.begin_with(phase.plan);
    } else if (!phase.again) {
      run.go_on_with(phase.plan);
    }
    for (std::uint32_t i = 0; i < phase.passes; ++i) run.pass(phase.steps);
  }
  return difference(run.state(), before);
}

}  // namespace tensor_pager::prediction
