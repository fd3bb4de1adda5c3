// SPDX-License-Identifier: Apache-2.0
#include "core/policy.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "pager/errors.hpp"

namespace tensor_pager {

std::vector<PageIndex> pages_of(const PageLayout& layout, std::span<const ByteRange> ranges) {
  std::vector<PageIndex> pages;
  for (const ByteRange& range : ranges) {
    if (range.offset > layout.image || range.size > layout.image - range.offset) {
      throw Error("plan reads bytes [" + std::to_string(range.offset.count) + ", +" +
                  std::to_string(range.size.count) + ") outside the image of " +
                  std::to_string(layout.image.count) + " bytes");
    }
    if (range.size == Bytes{0}) continue;
    const std::uint64_t first = range.offset / layout.page;
    const std::uint64_t last = (range.end() - Bytes{1}) / layout.page;
    for (std::uint64_t page = first; page <= last; ++page) {
      pages.push_back({static_cast<std::uint32_t>(page)});
    }
  }
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  return pages;
}

namespace {

/// The most pages that `count` of the ranges and `always` can cover together. An upper bound:
/// shared pages count twice.
std::size_t most_pages(const PageLayout& layout, const PlanStep& step, std::size_t always) {
  std::vector<std::size_t> sizes;
  for (const ByteRange& choice : step.choices)
    sizes.push_back(pages_of(layout, {&choice, 1}).size());
  std::sort(sizes.rbegin(), sizes.rend());
  sizes.resize(std::min<std::size_t>(sizes.size(), step.choose_at_most));
  std::size_t total = always;
  for (const std::size_t size : sizes) total += size;
  return std::min<std::size_t>(total, layout.page_count());
}

}  // namespace

PagePlan::PagePlan(const PageLayout& layout, const AccessPlan& plan)
    : uses_(layout.page_count()), prefetch_depth_(plan.prefetch_depth) {
  for (const PlanStep& step : plan.steps) {
    const auto index = static_cast<std::uint32_t>(steps_.size());
    steps_.push_back({pages_of(layout, step.reads), !step.choices.empty()});
    const std::vector<PageIndex>& pages = steps_.back().pages;
    for (const PageIndex page : pages) uses_[page.value].push_back(index);
    const std::size_t most = most_pages(layout, step, pages.size());
    largest_step_ = std::max(largest_step_, static_cast<std::uint32_t>(most));
  }
}

std::span<const PageIndex> PagePlan::pages(Position position) const {
  return steps_[position % steps_.size()].pages;
}

std::vector<PageIndex> PagePlan::pages_read() const {
  std::vector<PageIndex> read;
  for (std::uint32_t step = 0; step < steps(); ++step) {
    for (const PageIndex page : steps_[step].pages) {
      if (uses_[page.value].front() == step) read.push_back(page);
    }
  }
  return read;
}

bool PagePlan::chosen_at_run_time(Position position) const {
  return steps_[position % steps_.size()].chosen_at_run_time;
}

Position PagePlan::next_use(PageIndex page, Position position) const {
  if (steps_.empty() || uses_[page.value].empty()) return kNever;
  const std::vector<std::uint32_t>& uses = uses_[page.value];
  const auto step = static_cast<std::uint32_t>(position % steps_.size());
  const Position pass = position - step;
  const auto next = std::upper_bound(uses.begin(), uses.end(), step);
  return next != uses.end() ? pass + *next : pass + steps_.size() + uses.front();
}

std::vector<bool> streamed_pages(const PagePlan& plan, std::uint32_t pages, std::uint32_t kept) {
  const std::vector<PageIndex> read = plan.pages_read();
  std::vector<bool> streamed(pages);
  for (std::uint64_t i = 0; i < read.size(); ++i) {
    streamed[read[i].value] = (i + 1) * kept / read.size() == i * kept / read.size();
  }
  return streamed;
}

ReplacementPolicy::ReplacementPolicy(const PagePlan& plan, std::uint32_t pages,
                                     std::uint32_t window)
    : plan_(&plan), window_(window), entries_(pages) {}

void ReplacementPolicy::set_plan(const PagePlan& plan, Position position,
                                 std::vector<bool> streamed) {
  plan_ = &plan;
  streamed_ = std::move(streamed);
  position_ = position;
  replace_all();
}

void ReplacementPolicy::set_walkers(std::vector<std::uint32_t> steps) {
  std::sort(steps.begin(), steps.end());
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  const bool placed_alike = steps.empty() == walkers_.empty();
  walkers_ = std::move(steps);
  if (!placed_alike) replace_all();
}

void ReplacementPolicy::advance_to(Position position) {
  ++clock_;
  if (position == position_) {
    settle_current();
    return;
  }
  if (position != position_ + 1) {
    position_ = position;
    replace_all();
    return;
  }
  position_ = position;
  settle_current();
  while (!expected_.empty() && expected_.begin()->first <= position_) {
    const PageIndex page{expected_.begin()->second};
    unplace(page);
    place(page);
  }
  // The last step of the window came into sight. A page that it reads and that is idle has no
  // earlier use in the window.
  if (plan_->steps() == 0 || window_ == 0 || window_ >= plan_->steps()) return;
  for (const PageIndex page : plan_->pages(position_ + window_)) {
    if (entries_[page.value].place != Place::idle) continue;
    unplace(page);
    place(page);
  }
}

void ReplacementPolicy::insert(PageIndex page) {
  place(page);
  ++size_;
}

void ReplacementPolicy::touch(PageIndex page) {
  Entry& entry = entries_[page.value];
  if (std::exchange(entry.hinted, false)) entry.unplanned = kNever;
  if (entry.place == Place::current) return;
  unplace(page);
  entry.last_use = clock_;
  entry.place = Place::current;
  current_.push_back(page);
}

void ReplacementPolicy::use_unplanned(PageIndex page) {
  const bool placed = unplace_unless_current(page);
  Entry& entry = entries_[page.value];
  const bool again = !entry.hinted && entry.unplanned != kNever && entry.unplanned <= reached_;
  entry.interval =
      again ? std::max<Position>(1, reached_ - entry.unplanned) : std::max(1U, plan_->steps());
  entry.overdue = reached_ + entry.interval;
  entry.unplanned = reached_;
  entry.hinted = false;
  entry.last_use = clock_;
  if (placed) place(page);
}

void ReplacementPolicy::hint(PageIndex page) {
  const bool placed = unplace_unless_current(page);
  Entry& entry = entries_[page.value];
  entry.interval = 1;
  entry.overdue = reached_ + plan_->steps();
  entry.unplanned = reached_;
  entry.hinted = true;
  if (placed) place(page);
}

/// Takes a page out of the order so that its keys may change; false if it is in none.
bool ReplacementPolicy::unplace_unless_current(PageIndex page) {
  const Place place = entries_[page.value].place;
  if (place == Place::none || place == Place::current) return false;
  unplace(page);
  return true;
}

void ReplacementPolicy::forget_unplanned() {
  for (Entry& entry : entries_) entry.unplanned = kNever;
}

void ReplacementPolicy::remove(PageIndex page) {
  unplace(page);
  --size_;
}

std::optional<PageIndex> ReplacementPolicy::victim(
    const std::function<bool(PageIndex)>& keep) const {
  if (!walkers_.empty()) return victim_of_walks(keep);
  for (const auto& [last_use, page] : idle_) {
    if (!keep({page})) return PageIndex{page};
  }
  for (auto it = soon_.rbegin(); it != soon_.rend(); ++it) {
    if (!keep({it->second})) return PageIndex{it->second};
  }
  return std::nullopt;
}

/// Of the pages that one walk has passed since the former, the last that it read are worth least,
/// but for those that are read more than once in a pass.
std::optional<PageIndex> ReplacementPolicy::victim_of_walks(
    const std::function<bool(PageIndex)>& keep) const {
  std::optional<PageIndex> victim;
  Position farthest = 0;  // in steps of each walk
  const auto oldest = std::find_if(idle_.begin(), idle_.end(),
                                   [&](const auto& entry) { return !keep({entry.second}); });
  if (oldest != idle_.end()) {
    victim = PageIndex{oldest->second};
    farthest = (clock_ - oldest->first) / walkers_.size();
  }
  const Position steps = plan_->steps();
  for (std::size_t i = 0; i < walkers_.size(); ++i) {
    const Position walker = walkers_[i];
    const Position former = walkers_[i == 0 ? walkers_.size() - 1 : i - 1];
    const Position gap = (walker + steps - former - 1) % steps + 1;
    for (Position back = 0; back < gap && (!victim || farthest < gap - back); ++back) {
      for (const PageIndex page : plan_->pages(walker + steps - back)) {
        if (entries_[page.value].place != Place::walked || keep(page)) continue;
        const Position until = steps_until_walked(page);
        if (victim && until <= farthest) continue;
        victim = page;
        farthest = until;
      }
    }
  }
  return victim;
}

Position ReplacementPolicy::steps_until_walked(PageIndex page) const {
  Position until = kNever;
  for (const Position walker : walkers_)
    until = std::min(until, plan_->next_use(page, walker) - walker);
  return until;
}

/// The next use that counts, planned or expected.
Position ReplacementPolicy::worth(PageIndex page) const {
  return std::min(planned_worth(page), expected_use(page));
}

bool ReplacementPolicy::repeats(PageIndex page) const {
  return expected_use(page) != kNever && entries_[page.value].interval < plan_->steps();
}

/// Of a page that the plan reads, only what comes more often than once in a pass is worth more than
/// what the plan says.
Position ReplacementPolicy::expected_use(PageIndex page) const {
  const Entry& entry = entries_[page.value];
  if (entry.unplanned == kNever || plan_->steps() == 0 || reached_ > entry.overdue) return kNever;
  if (entry.interval >= plan_->steps() && plan_->next_use(page, position_) != kNever) return kNever;
  const Position since = position_ < entry.unplanned ? 0 : position_ - entry.unplanned;
  return entry.unplanned + (since / entry.interval + 1) * entry.interval;
}

Position ReplacementPolicy::planned_worth(PageIndex page) const {
  const Position next = plan_->next_use(page, position_);
  if (next == kNever || streamed_.empty() || !streamed_[page.value]) return next;
  const std::uint32_t steps = plan_->steps();
  return next / steps == position_ / steps ? next : next + steps;
}

/// Puts an unplaced page where its next use says. A page of the present step that is not yet
/// touched counts as soon.
void ReplacementPolicy::place(PageIndex page) {
  Entry& entry = entries_[page.value];
  if (!walkers_.empty() && plan_->reads(page)) {
    entry.place = Place::walked;
    return;
  }
  const Position planned = window_ == 0 ? kNever : planned_worth(page);
  entry.worth = window_ == 0 ? kNever : std::min(planned, expected_use(page));
  const bool soon = entry.worth != kNever && entry.worth - position_ <= window_;
  entry.place = soon ? Place::soon : Place::idle;
  entry.expected = soon && entry.worth != planned;
  if (entry.expected) expected_.emplace(entry.worth, page.value);
  if (soon) {
    put(soon_, entry.worth, page, entry);
  } else {
    put(idle_, entry.last_use, page, entry);
  }
}

/// At the end as a rule: what was just used is used last again.
void ReplacementPolicy::put(Order& order, std::uint64_t key, PageIndex page, Entry& entry) {
  if (entry.node.empty()) {
    entry.at = order.emplace_hint(order.end(), key, page.value);
  } else {
    entry.node.value() = {key, page.value};
    entry.at = order.insert(order.end(), std::move(entry.node));
  }
}

void ReplacementPolicy::unplace(PageIndex page) {
  Entry& entry = entries_[page.value];
  if (std::exchange(entry.expected, false)) expected_.erase({entry.worth, page.value});
  if (entry.place == Place::soon) entry.node = soon_.extract(entry.at);
  if (entry.place == Place::idle) entry.node = idle_.extract(entry.at);
  if (entry.place == Place::current) std::erase(current_, page);
  entry.place = Place::none;
}

void ReplacementPolicy::settle_current() {
  for (const PageIndex page : current_) {
    entries_[page.value].place = Place::none;
    place(page);
  }
  current_.clear();
}

void ReplacementPolicy::replace_all() {
  settle_current();
  for (std::uint32_t page = 0; page < entries_.size(); ++page) {
    if (entries_[page].place == Place::none) continue;
    unplace({page});
    place({page});
  }
}

OptimalLoads::OptimalLoads(const PagePlan& plan, std::uint32_t pages, std::uint32_t frames)
    : policy_(plan, pages, kWholePass), frames_(frames) {}

std::vector<PageIndex> OptimalLoads::access(Position position, std::span<const PageIndex> pages) {
  policy_.advance_to(position);
  std::vector<PageIndex> copied;
  for (const PageIndex page : pages) {
    if (policy_.contains(page)) {
      policy_.touch(page);
    } else {
      copied.push_back(page);
    }
  }
  for (const PageIndex page : copied) {
    policy_.insert(page);
    policy_.touch(page);
  }
  while (policy_.size() > frames_) {
    const auto victim = policy_.victim([](PageIndex) { return false; });
    if (!victim) break;  // the step alone fills the arena
    policy_.remove(*victim);
  }
  return copied;
}

}  // namespace tensor_pager
