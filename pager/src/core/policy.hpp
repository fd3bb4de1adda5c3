// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "pager/plan.hpp"
#include "pager/policy_options.hpp"
#include "pager/types.hpp"

namespace tensor_pager {

/// How many steps were reached before; plan step = position % steps of a pass. It only grows.
using Position = std::uint64_t;
inline constexpr Position kNever = std::numeric_limits<Position>::max();

/// An access plan in pages: for each step its pages, for each page its steps.
class PagePlan {
 public:
  PagePlan() = default;
  /// Throws Error if a range leaves the image.
  PagePlan(const PageLayout& layout, const AccessPlan& plan);

  std::uint32_t steps() const { return static_cast<std::uint32_t>(steps_.size()); }
  /// The pages that step `position % steps()` always reads: ascending, each once.
  std::span<const PageIndex> pages(Position position) const;
  /// Whether the step reads pages that the caller chooses when it acquires the step.
  bool chosen_at_run_time(Position position) const;
  /// The first position after `position` whose step always reads `page`; kNever if no step does.
  Position next_use(PageIndex page, Position position) const;
  /// Whether some step always reads it.
  bool reads(PageIndex page) const { return !uses_.empty() && !uses_[page.value].empty(); }
  /// The most pages that one step holds at once: the smallest arena, in frames. 1 for an empty
  /// plan.
  std::uint32_t largest_step() const { return largest_step_; }
  /// Pages that some step always reads, in the order of their first use.
  std::vector<PageIndex> pages_read() const;
  /// AccessPlan::prefetch_depth.
  std::optional<std::uint32_t> prefetch_depth() const { return prefetch_depth_; }

 private:
  struct Step {
    std::vector<PageIndex> pages;
    bool chosen_at_run_time = false;
  };

  std::vector<Step> steps_;
  std::vector<std::vector<std::uint32_t>> uses_;  // by page: its steps, ascending
  std::uint32_t largest_step_ = 1;
  std::optional<std::uint32_t> prefetch_depth_;
};

/// By page of the image, whether it is streamed: all pages that the plan reads but `kept` of them,
/// which are spread evenly over the pass.
std::vector<bool> streamed_pages(const PagePlan& plan, std::uint32_t pages, std::uint32_t kept);

/// Which pages are worth keeping: least recently used, plus lookahead. A pure object: it moves
/// nothing.
///
/// The victim is the page whose next use within the window is farthest away. Pages without a use in
/// the window come before all others, least recently used first. Pages used at the present position
/// are never victims. Ties are broken by page index, so that equal histories give equal victims.
///
/// A pass that is repeated needs every page once more, so Belady's rule gives up what was used
/// last, and what it keeps lies together: a stretch of hits, in which the link has nothing to do,
/// then a stretch of misses, in which arithmetic waits for it. Pages that set_plan calls streamed
/// therefore count as used one pass later than they are, once their last use of a pass has been.
/// The others stay, wherever in the pass they are.
///
/// Uses outside the plan are not known in advance, but they repeat. A page that was used so is
/// expected again after as many positions as lay between its last two such uses (after a pass, if
/// there was one only), and is worth what that says until the expected use is overdue.
///
/// Several walks through the plan at once make no order of steps. A page that the plan reads is
/// worth then how soon one of them comes to it, as if all went on equally fast. Others are expected
/// after as long as they have not been used.
///
/// Each tracked page is in exactly one of four places:
///   current - used at the present position; becomes soon or idle when the position advances
///   soon    - its next use is within the window, ordered by that use (see above)
///   idle    - no use within the window, ordered by the last use
///   walked  - one of several walks comes to it; found through the plan's steps
class ReplacementPolicy {
 public:
  /// `plan` must outlive the policy, or be replaced through set_plan.
  ReplacementPolicy(const PagePlan& plan, std::uint32_t pages, std::uint32_t window);

  /// Starts over at `position` of another plan; the pages stay tracked. `streamed` is by page;
  /// empty if none is.
  void set_plan(const PagePlan& plan, Position position, std::vector<bool> streamed = {});
  /// Takes effect with the next set_plan.
  void set_window(std::uint32_t window) { window_ = window; }
  /// The step that each of several walks acquired last; none if there is one walk only, which is at
  /// the present position.
  void set_walkers(std::vector<std::uint32_t> steps);
  /// Moves to `position`; moving to the present one starts another use of it. Advancing by one step
  /// or by none is cheap, any other move looks at every tracked page.
  void advance_to(Position position);

  bool contains(PageIndex page) const { return entries_[page.value].place != Place::none; }
  std::uint32_t size() const { return size_; }

  /// Starts to track `page`, with the last use that it had when it was tracked before.
  void insert(PageIndex page);
  /// Notes a use of a tracked page at the present position.
  void touch(PageIndex page);
  void remove(PageIndex page);

  /// The pass has come to `position`: the policy's own is ahead of it by what is planned. Expected
  /// uses before it that did not come are expected no more.
  void reached(Position position) { reached_ = position; }
  /// Notes a use outside the plan, at the position that was reached, of a page that may be tracked
  /// or not.
  void use_unplanned(PageIndex page);
  /// The page is said to be used soon, within a pass.
  void hint(PageIndex page);
  /// Expects no uses outside the plan: positions mean something else from now on.
  void forget_unplanned();
  /// Whether it is expected outside the plan, and more often than once in a pass.
  bool repeats(PageIndex page) const;
  /// When the page is used next, as far as it counts; kNever if that is not known.
  Position next_use(PageIndex page) const { return window_ == 0 ? kNever : worth(page); }

  /// The page to give up first, among those for which `keep` is false and that are not in use at
  /// the present position.
  std::optional<PageIndex> victim(const std::function<bool(PageIndex)>& keep) const;

 private:
  enum class Place : std::uint8_t { none, current, soon, idle, walked };
  using Order = std::set<std::pair<std::uint64_t, std::uint32_t>>;
  struct Entry {
    Place place = Place::none;
    bool hinted = false;          // what is expected is a hint, not a use that repeats
    bool expected = false;        // its worth is that of a use outside the plan
    Position worth = kNever;      // the key in soon_, and in expected_
    Position unplanned = kNever;  // the last use outside the plan
    Position interval = 1;        // expected between such uses
    Position overdue = 0;         // when no such use is expected any more
    std::uint64_t last_use = 0;   // the key in idle_; kept while the page is not tracked
    Order::iterator at{};         // in soon_ or idle_
    Order::node_type node{};      // while it is in neither: every use would allocate another
  };

  Position worth(PageIndex page) const;
  Position planned_worth(PageIndex page) const;
  Position expected_use(PageIndex page) const;
  Position steps_until_walked(PageIndex page) const;
  std::optional<PageIndex> victim_of_walks(const std::function<bool(PageIndex)>& keep) const;
  bool unplace_unless_current(PageIndex page);
  void place(PageIndex page);
  void unplace(PageIndex page);
  static void put(Order& order, std::uint64_t key, PageIndex page, Entry& entry);
  void settle_current();
  void replace_all();

  const PagePlan* plan_;
  std::uint32_t window_;
  std::vector<bool> streamed_;
  std::vector<std::uint32_t> walkers_;  // ascending, each once
  Position position_ = 0;
  Position reached_ = 0;
  std::uint64_t clock_ = 1;  // counts moves, so that last uses are ordered without a plan, too
  std::vector<Entry> entries_;
  std::vector<PageIndex> current_;
  Order soon_;
  Order idle_;
  Order expected_;  // of soon_, those whose worth must be looked at again when it is there
  std::uint32_t size_ = 0;
};

/// Counts the pages that Belady's rule would copy: it knows the whole plan and prefetches nothing.
/// What the pager copies is held against it. Pages chosen at run time are not foreseen, so with
/// them it is an estimate.
class OptimalLoads {
 public:
  OptimalLoads(const PagePlan& plan, std::uint32_t pages, std::uint32_t frames);

  /// With streamed pages it counts what ReplacementPolicy copies then, instead of Belady's rule.
  void set_plan(const PagePlan& plan, Position position, std::vector<bool> streamed = {}) {
    policy_.set_plan(plan, position, std::move(streamed));
  }
  void set_frames(std::uint32_t frames) { frames_ = frames; }
  /// 0: it foresees nothing, and counts what plain LRU would copy. Takes effect with set_plan.
  void set_window(std::uint32_t window) { policy_.set_window(window); }
  /// With several walks nobody knows the order that Belady's rule would need: it counts what
  /// ReplacementPolicy copies.
  void set_walkers(std::vector<std::uint32_t> steps) { policy_.set_walkers(std::move(steps)); }
  /// The step at `position` reads `pages`; returns those that had to be copied.
  std::vector<PageIndex> access(Position position, std::span<const PageIndex> pages);

 private:
  ReplacementPolicy policy_;
  std::uint32_t frames_;
};

}  // namespace tensor_pager
