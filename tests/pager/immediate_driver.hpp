// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <random>
#include <set>
#include <vector>

#include "core/core.hpp"

namespace tensor_pager::testing {

inline constexpr Bytes kTestPage{4096};

/// A plan whose step i reads whole pages.
inline AccessPlan plan_of_pages(const std::vector<std::vector<std::uint32_t>>& steps) {
  AccessPlan plan;
  for (const auto& pages : steps) {
    PlanStep step;
    for (const std::uint32_t page : pages) step.reads.push_back({kTestPage * page, kTestPage});
    plan.steps.push_back(std::move(step));
  }
  return plan;
}

/// Drives a core by hand: one stream, each step used and released before the next. Copies and
/// fences end at once, or after a random while.
class ImmediateDriver {
 public:
  ImmediateDriver(std::uint32_t pages, std::uint32_t frames, const PolicyOptions& policy)
      : core_({.layout = {kTestPage * pages, kTestPage},
               .frames = frames,
               .policy = policy,
               .pages_per_copy = 16,
               .unmap_on_evict = false,
               .host_pages_ready = true}) {}

  Core& core() { return core_; }
  void delay_randomly(std::uint64_t seed) {
    delayed_ = true;
    random_.seed(seed);
  }

  /// Acquires a step, waits for it, and releases it.
  void use(StepIndex step) {
    const LeaseId lease = core_.acquire(step, {}, CallerId{0});
    use(lease);
  }
  void use(LeaseId lease) {
    carry_out();
    while (core_.state(lease) != LeaseState::ready) advance();
    for (const PageIndex page : core_.pages(lease)) unused_.erase(page.value);
    const FenceId fence{++fence_};
    core_.release(lease, fence);
    fences_.push_back(fence);
    carry_out();
  }

  /// Everything under way ends.
  void settle() {
    start_copies();
    while (!copying_.empty() || !fences_.empty()) advance();
  }

  /// Pages copied so far, in order.
  const std::vector<PageIndex>& copied() const { return copied_; }
  /// Commands to map, unmap or destroy so far.
  std::uint64_t remaps() const { return remaps_; }
  /// Pages copied ahead of a use that has not come.
  std::uint64_t unused_loads() const { return unused_.size(); }

 private:
  void carry_out() {
    start_copies();
    while (!(copying_.empty() && fences_.empty()) && (!delayed_ || random_() % 3 == 0)) advance();
  }

  void advance() {
    end_oldest();
    start_copies();
  }

  void start_copies() {
    const Commands commands = core_.take_commands();
    remaps_ += commands.remaps.size();
    for (const PageRun& run : commands.copies) {
      for (std::uint32_t k = 0; k < run.count; ++k) {
        copying_.push_back({run.first.value + k});
        copied_.push_back(copying_.back());
        unused_.insert(run.first.value + k);
      }
    }
  }

  void end_oldest() {
    const bool copy = !copying_.empty() && (fences_.empty() || random_() % 2 == 0);
    if (copy) {
      const PageIndex page = copying_.front();
      copying_.pop_front();
      core_.copy_finished(page);
    } else if (!fences_.empty()) {
      const FenceId fence = fences_.front();
      fences_.pop_front();
      core_.fence_passed(fence);
    }
  }

  Core core_;
  bool delayed_ = false;
  std::mt19937_64 random_;
  std::uint64_t fence_ = 0;
  std::uint64_t remaps_ = 0;
  std::deque<PageIndex> copying_;
  std::deque<FenceId> fences_;
  std::vector<PageIndex> copied_;
  std::set<std::uint32_t> unused_;
};

}  // namespace tensor_pager::testing
