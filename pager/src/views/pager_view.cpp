// SPDX-License-Identifier: Apache-2.0
#include "views/pager_view.hpp"

#include <algorithm>

namespace tensor_pager {

PagerView::PagerView(const PagerOptions& options, const CoreOptions& core, const DeviceInfo& device)
    : trace_(options.trace), page_(core.layout.page) {
  if (options.publish) {
    publication_.emplace(core.layout, options.title, device.kind, device.name, options.names);
  }
  if (trace_ != nullptr) {
    trace_->describe(
        {.layout = core.layout, .policy = core.policy, .pages_per_copy = core.pages_per_copy},
        options.names);
  }
}

void PagerView::plan_set(const AccessPlan& plan) {
  step_names_.clear();
  for (const PlanStep& step : plan.steps) step_names_.push_back(step.name);
  ++plans_;
  step_ = {};
  work_ = plan.work;
  passes_ = 0;
  if (publication_) publication_->name_plan(plan.name, plan.unit);
  if (trace_ != nullptr) trace_->plan_set(Trace::Clock::now(), plan);
}

void PagerView::reached(StepIndex step) {
  if (passes_ == 0 || step <= step_) ++passes_;
  step_ = step;
}

LeaseLabel PagerView::label(StepIndex step) const {
  const bool named = step.value < step_names_.size() && !step_names_[step.value].empty();
  LeaseLabel label{.name = named ? step_names_[step.value] : "step " + std::to_string(step.value)};
  if (plans_ > 0) label.position = {.plan = plans_ - 1, .step = step};
  return label;
}

void PagerView::commanded(const Commands& commands, std::uint32_t resident) {
  if (publication_) {
    for (const PageIndex page : commands.evicted) publication_->set(page, PageState::absent);
    for (const PageRun& run : commands.copies) {
      for (std::uint32_t k = 0; k < run.count; ++k) publication_->loading({run.first.value + k});
    }
  }
  // With the evictions, what has arrived so far makes up what the core calls resident.
  if (trace_ == nullptr || (arrived_.empty() && commands.evicted.empty())) return;
  const Trace::Time now = Trace::Clock::now();
  for (const PageRun& pages : arrived_) trace_->arrived(now, pages);
  arrived_.clear();
  trace_->evicted(now, commands.evicted);
  trace_->resident(now, page_ * resident);
}

void PagerView::remapped(Trace::Time begin, std::size_t commands) const {
  if (trace_ == nullptr || commands == 0) return;
  trace_->add({.track = Trace::Track::pager,
               .begin = begin,
               .end = Trace::Clock::now(),
               .name = "map and unmap",
               .detail = std::to_string(commands) + " pages or frames"});
}

void PagerView::copy_started(CopyId copy, PageRun pages) {
  if (trace_ == nullptr) return;
  for (std::uint32_t k = 0; k < pages.count; ++k) brought_in_[pages.first.value + k] = copy;
}

void PagerView::copy_ended(PageRun pages, bool well) {
  if (trace_ != nullptr && well) arrived_.push_back(pages);
  if (!publication_) return;
  for (std::uint32_t k = 0; k < pages.count; ++k) {
    publication_->set({pages.first.value + k}, well ? PageState::resident : PageState::absent);
  }
}

std::vector<std::uint64_t> PagerView::take_copies(std::span<const PageIndex> pages) {
  std::vector<std::uint64_t> copies;
  for (const PageIndex page : pages) {
    const auto node = brought_in_.extract(page.value);
    if (!node.empty()) copies.push_back(static_cast<std::uint64_t>(node.mapped()));
  }
  std::ranges::sort(copies);
  copies.erase(std::unique(copies.begin(), copies.end()), copies.end());
  return copies;
}

void PagerView::frames(std::uint32_t count) const {
  if (trace_ != nullptr) trace_->frames(Trace::Clock::now(), count);
}

void PagerView::publish(const Statistics& statistics) {
  if (!publication_) return;
  PublishedState state{.statistics = statistics};
  state.step = step_.value;
  state.steps = static_cast<std::uint32_t>(step_names_.size());
  state.work = work_;
  state.plans = plans_;
  state.passes = passes_;
  publication_->publish(state);
}

}  // namespace tensor_pager
