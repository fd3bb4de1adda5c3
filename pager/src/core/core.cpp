// SPDX-License-Identifier: Apache-2.0
#include "core/core.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "pager/errors.hpp"

namespace tensor_pager {

namespace {

std::string pages_text(std::uint64_t pages, Bytes page) {
  return std::to_string(pages) + (pages == 1 ? " page" : " pages") + " (" +
         std::to_string(pages * page.count) + " bytes)";
}

}  // namespace

Core::Core(const CoreOptions& options)
    : options_(options),
      plan_(),
      policy_(plan_, options.layout.page_count(), options.policy.window),
      optimal_(plan_, options.layout.page_count(), options.frames),
      pages_(options.layout.page_count()),
      budget_(options.frames) {
  if (budget_ == 0) {
    throw BudgetError("the arena holds no page: it needs at least one page of " +
                          std::to_string(options.layout.page.count) + " bytes",
                      options.layout.page);
  }
  for (Page& page : pages_) page.host_ready = options.host_pages_ready;
  add_frames();
}

void Core::set_plan(const AccessPlan& plan) {
  PagePlan pages(options_.layout, plan);
  if (pages.largest_step() > budget_) {
    const Bytes minimum = options_.layout.page * pages.largest_step();
    throw BudgetError("the arena of " + pages_text(budget_, options_.layout.page) +
                          " is too small: the plan's largest step holds " +
                          pages_text(pages.largest_step(), options_.layout.page) +
                          " at once; give it at least " + std::to_string(minimum.count) + " bytes",
                      minimum);
  }
  plan_ = std::move(pages);
  position_ = plan_.steps();  // one pass in, so that there is a position before the first step
  walks_.clear();
  walker_.reset();
  several_walkers_ = false;
  place_walkers();
  policy_.forget_unplanned();
  restart_optimal();
  choose_placement();
  resting_ = false;
  rollback();
  settle();
}

LeaseId Core::acquire(StepIndex step, std::span<const ByteRange> chosen, CallerId caller) {
  if (step.value >= plan_.steps()) {
    throw Error("step " + std::to_string(step.value) + " is not in the plan of " +
                std::to_string(plan_.steps()) + " steps");
  }
  const std::vector<PageIndex> extra = pages_of(options_.layout, chosen);
  const std::span<const PageIndex> always = plan_.pages(step.value);
  std::vector<PageIndex> pages;
  pages.reserve(always.size() + extra.size());
  std::set_union(always.begin(), always.end(), extra.begin(), extra.end(),
                 std::back_inserter(pages));
  require_fits(pages.size());

  if (follow_walk(step, caller)) return acquire_outside_plan(std::move(pages), caller);
  if (position_ % plan_.steps() != step.value) seek(step);
  return acquire_step(std::move(pages), caller, /*as_planned=*/extra.empty());
}

LeaseId Core::acquire(std::span<const ByteRange> ranges, CallerId caller) {
  std::vector<PageIndex> pages = pages_of(options_.layout, ranges);
  require_fits(pages.size());
  return acquire_outside_plan(std::move(pages), caller);
}

void Core::prefetch(std::span<const ByteRange> ranges) {
  for (const PageIndex page : pages_of(options_.layout, ranges)) {
    policy_.hint(page);
    const Page& entry = pages_[page.value];
    if (entry.residency != kNone || entry.suspect) continue;
    load_outside_plan(page, policy_.next_use(page));
  }
  settle();
}

/// Notes that the caller walks on to `step`; true if it is one of several that walk the plan.
bool Core::follow_walk(StepIndex step, CallerId caller) {
  constexpr std::size_t kMostWalks = 256;  // threads that are gone are not walking
  const std::uint32_t steps = plan_.steps();
  const auto own = walks_.find(caller);
  const bool goes_on = own != walks_.end() && (own->second.step.value + 1) % steps == step.value;
  walked_ = goes_on && walker_ == caller ? std::min(walked_ + 1, steps) : 1;
  walker_ = caller;
  if (walks_.size() >= kMostWalks && own == walks_.end()) walks_.clear();
  walks_[caller] = {.step = step, .turn = ++turns_};
  if (!several_walkers_ && goes_on && position_ % steps != step.value) {
    set_several_walkers(true);
  } else if (several_walkers_ && walked_ == steps) {
    set_several_walkers(false);
  } else if (several_walkers_) {
    place_walkers();
  }
  return several_walkers_;
}

/// Where the walks are, but for those whose thread has not come for a pass of all of them.
void Core::place_walkers() {
  std::vector<std::uint32_t> steps;
  const bool foreseen = several_walkers_ && options_.policy.window >= plan_.steps();
  for (const auto& [caller, walk] : walks_) {
    if (foreseen && turns_ - walk.turn < plan_.steps() * walks_.size())
      steps.push_back(walk.step.value);
  }
  optimal_.set_walkers(steps);
  policy_.set_walkers(std::move(steps));
}

void Core::set_several_walkers(bool several) {
  several_walkers_ = several;
  if (!several) walks_ = {{*walker_, walks_.at(*walker_)}};
  policy_.forget_unplanned();
  restart_optimal();
  place_walkers();
  choose_placement();
  rollback();
}

/// Holds the pages of the step at position_: those of the first planned step if it is what was
/// planned, and planned now otherwise.
LeaseId Core::acquire_step(std::vector<PageIndex> pages, CallerId caller, bool as_planned) {
  forget_latest();
  const LeaseId id = new_lease(std::move(pages), caller);
  Lease& lease = leases_.at(id);
  const Position position = position_++;
  policy_.reached(position);
  count_optimal(position, lease.pages);
  if (planned_.empty() && fits(lease.pages)) {
    frontier_ = position_;
    hold(lease, position);
  } else if (as_planned && fits(lease.pages)) {
    PlannedStep step = std::move(planned_.front());
    planned_.pop_front();
    planned_loads_ -= step.loads;
    place_all_pages(step);
    grant(lease, step);
  } else {
    rollback();  // holds every waiting lease that fits, this one among them
  }
  latest_lease_ = id;
  latest_ = lease.residencies;
  for (const ResidencyId residency : latest_) residencies_[residency].latest = true;
  settle();
  return id;
}

void Core::forget_latest() {
  for (const ResidencyId id : latest_) residencies_[id].latest = false;
  latest_.clear();
}

LeaseId Core::acquire_outside_plan(std::vector<PageIndex> pages, CallerId caller) {
  const LeaseId id = new_lease(std::move(pages), caller);
  Lease& lease = leases_.at(id);
  lease.outside_plan = true;
  count_optimal(last_position(), lease.pages);
  hold_outside_plan(lease);
  settle();
  return id;
}

void Core::count_optimal(Position position, std::span<const PageIndex> pages) {
  resting_ = false;
  for (const PageIndex page : pages) pages_[page.value].suspect = false;
  for (const PageIndex page : optimal_.access(position, pages)) {
    ++counters_.optimal_loads;
    counters_.optimal += options_.layout.bytes_of(page).size;
  }
}

void Core::release(LeaseId id, std::optional<FenceId> fence) {
  auto node = leases_.extract(id);
  Lease& lease = node.mapped();
  if (id == latest_lease_) forget_latest();  // what other leases hold of it is held long
  drop_pins(lease);
  if (fence && !lease.residencies.empty()) {
    for (const ResidencyId residency : lease.residencies) ++residencies_[residency].fences;
    std::vector<ResidencyId>& fenced = fences_[*fence];
    fenced.insert(fenced.end(), lease.residencies.begin(), lease.residencies.end());
  }
  if (alive_ - retiring_ > budget_) {
    rollback();
  } else {
    retry_blocked();
  }
  settle();
}

void Core::fence_passed(FenceId fence) {
  auto node = fences_.extract(fence);
  if (node.empty()) return;
  for (const ResidencyId id : node.mapped()) --residencies_[id].fences;
  settle();
}

void Core::copy_finished(PageIndex page) {
  const ResidencyId id = std::exchange(pages_[page.value].loading, kNone);
  ++resident_;
  residencies_[id].state = ResidencyState::resident;
  settle();
}

void Core::copy_failed(PageIndex page, const std::string& reason) {
  const ResidencyId id = std::exchange(pages_[page.value].loading, kNone);
  Residency& residency = residencies_[id];
  residency.state = ResidencyState::failed;
  pages_[page.value].suspect = true;
  ++counters_.failed_loads;
  for (auto& [lease_id, lease] : leases_) {
    if (std::count(lease.residencies.begin(), lease.residencies.end(), id) != 0)
      lease.failure = reason;
  }
  if (pages_[page.value].residency == id && !relied_upon(id)) forget(id);
  rollback();
  settle();
}

/// Whether work may already be waiting for the page, to read what the failed copy left. Its
/// address must go on pointing there, so that the page is tried again in the same frame.
bool Core::relied_upon(ResidencyId id) const {
  if (residencies_[id].fences != 0) return true;
  return std::any_of(leases_.begin(), leases_.end(), [&](const auto& entry) {
    const std::vector<ResidencyId>& held = entry.second.residencies;
    return entry.second.granted && std::find(held.begin(), held.end(), id) != held.end();
  });
}

/// The page is not in this frame any more; the frame is the next to be used.
void Core::forget(ResidencyId id) {
  const PageIndex page = residencies_[id].page;
  pages_[page.value].residency = kNone;
  if (policy_.contains(page)) policy_.remove(page);
  if (residencies_[id].in_limbo) leave_limbo(id);
  enter_limbo(id, /*first=*/true);
}

/// Mappings that earlier stays left behind, but for those that work may still read through.
void Core::unmap_unread() {
  const std::vector<bool> read = pages_in_frames();
  for (std::uint32_t page = 0; page < pages_.size(); ++page) {
    if (!read[page] && pages_[page].mapped) unmap({page});
  }
}

void Core::evict_all() {
  rollback();
  optimal_ = OptimalLoads(plan_, options_.layout.page_count(), budget_);
  restart_optimal();
  place_walkers();
  for (ResidencyId id = 0; id < residencies_.size(); ++id) {
    Residency& residency = residencies_[id];
    const bool there = residency.state == ResidencyState::resident;
    if ((!there && residency.state != ResidencyState::failed) || residency.pins != 0 ||
        residency.fences != 0 || pages_[residency.page.value].residency != id)
      continue;
    residency.state = ResidencyState::failed;
    if (there) note_eviction(residency.page);
    forget(id);
  }
  if (options_.unmap_on_evict) unmap_unread();
  resting_ = true;
  settle();
}

void Core::host_page_ready(PageIndex page) {
  pages_[page.value].host_ready = true;
  settle();
}

std::vector<FrameIndex> Core::frames_to_create(std::uint32_t budget) const {
  std::vector<FrameIndex> frames;
  for (std::uint32_t i = 0; alive_ + i < budget; ++i) {
    frames.push_back(i < dead_frames_.size() ? dead_frames_[dead_frames_.size() - 1 - i]
                                             : FrameIndex{alive_ + i});
  }
  return frames;
}

void Core::set_budget(std::uint32_t frames, CallerId caller) {
  if (frames < minimum_frames()) {
    const Bytes minimum = options_.layout.page * minimum_frames();
    throw BudgetError("an arena of " + pages_text(frames, options_.layout.page) +
                          " is too small: the plan's largest step holds " +
                          pages_text(minimum_frames(), options_.layout.page) +
                          " at once; give it at least " + std::to_string(minimum.count) + " bytes",
                      minimum);
  }
  budget_caller_ = caller;
  budget_failure_.clear();
  change_budget(frames);
  for (auto& [id, lease] : leases_) {
    if (!lease.blocked || lease.pages.size() <= budget_) continue;
    lease.failure = "the arena was cut to " + pages_text(budget_, options_.layout.page) +
                    " while " + pages_text(lease.pages.size(), options_.layout.page) +
                    " were being acquired; give it more, or acquire less at once";
  }
  settle();
}

void Core::change_budget(std::uint32_t frames) {
  budget_ = frames;
  optimal_.set_frames(frames);
  choose_placement();
  rollback();
}

BudgetState Core::budget_state() const {
  if (!budget_failure_.empty()) return BudgetState::failed;
  return alive_ > budget_ ? BudgetState::waiting : BudgetState::done;
}

Commands Core::take_commands() {
  return std::exchange(commands_, {});
}

LeaseState Core::state(LeaseId id) const {
  const Lease& lease = leases_.at(id);
  if (!lease.failure.empty()) return LeaseState::failed;
  if (lease.blocked) return LeaseState::blocked;
  const auto any = [&](ResidencyState state) {
    return std::any_of(
        lease.residencies.begin(), lease.residencies.end(),
        [&](ResidencyId residency) { return residencies_[residency].state == state; });
  };
  if (any(ResidencyState::planned)) return LeaseState::queued;
  return any(ResidencyState::loading) ? LeaseState::loading : LeaseState::ready;
}

const std::string& Core::failure(LeaseId lease) const {
  return leases_.at(lease).failure;
}

std::span<const PageIndex> Core::pages(LeaseId lease) const {
  return leases_.at(lease).pages;
}

bool Core::resident(PageIndex page) const {
  const ResidencyId id = pages_[page.value].residency;
  return id != kNone && residencies_[id].state == ResidencyState::resident;
}

std::uint32_t Core::depth_of(bool spread) const {
  const std::uint32_t step = plan_.largest_step();
  if (window() == 0 || plan_.steps() == 0 || budget_ < step) return 0;
  const std::uint32_t asked = plan_.prefetch_depth().value_or(options_.policy.prefetch_depth);
  const std::uint32_t usual = std::max(4U, spread ? 2 * step : step);
  return std::min(asked == kWholeSteps ? usual : asked, budget_ - step);
}

LeaseId Core::new_lease(std::vector<PageIndex> pages, CallerId caller) {
  const LeaseId id{next_lease_++};
  Lease& lease = leases_[id];
  lease.caller = caller;
  lease.pages = std::move(pages);
  return id;
}

void Core::require_fits(std::size_t pages) const {
  if (pages <= budget_) return;
  const Bytes minimum = options_.layout.page * pages;
  throw BudgetError("the arena of " + pages_text(budget_, options_.layout.page) + " cannot hold " +
                        pages_text(pages, options_.layout.page) + " at once; give it at least " +
                        std::to_string(minimum.count) + " bytes",
                    minimum);
}

/// Whether the pages fit beside those that leases hold. What fits can be held: every frame that no
/// lease holds drains.
bool Core::fits(std::span<const PageIndex> pages) const {
  const auto shared = std::count_if(pages.begin(), pages.end(), [&](PageIndex page) {
    const ResidencyId id = pages_[page.value].residency;
    return id != kNone && residencies_[id].pins != 0;
  });
  return pinned_ - static_cast<std::size_t>(shared) + pages.size() <= budget_;
}

void Core::seek(StepIndex step) {
  const std::uint32_t steps = plan_.steps();
  const auto expected = static_cast<std::uint32_t>(position_ % steps);
  position_ += (step.value + steps - expected) % steps;
  rollback();
}

/// The planned step becomes the lease: its promises become pins.
void Core::grant(Lease& lease, const PlannedStep& step) {
  lease.blocked = false;
  for (const ResidencyId id : step.residencies) {
    --residencies_[id].promised;
    pin(lease, id);
  }
  count_accesses(lease);
}

void Core::pin(Lease& lease, ResidencyId id) {
  lease.residencies.push_back(id);
  if (residencies_[id].pins++ == 0) ++pinned_;
  if (residencies_[id].state == ResidencyState::failed) command_load(id);  // once more
}

/// Plans and holds the pages of a lease that fits, at `position`, with no step planned ahead.
void Core::hold(Lease& lease, Position position) {
  PlannedStep step = begin_step(position, lease.pages);
  place_all_pages(step);
  grant(lease, step);
}

/// Holds the pages of a lease outside the plan, if they fit beside those that leases hold, and
/// leaves the decisions ahead as they are, if there are frames that they do not need.
void Core::hold_outside_plan(Lease& lease) {
  if (!fits(lease.pages)) return;
  if (planned_.empty())
    policy_.advance_to(last_position());  // the pages of the last step may leave
  lease.blocked = false;
  for (const PageIndex page : lease.pages) {
    policy_.use_unplanned(page);
    if (pages_[page.value].residency != kNone) pin(lease, pages_[page.value].residency);
  }
  std::size_t held = lease.residencies.size();
  for (const PageIndex page : lease.pages) {
    if (held == lease.pages.size()) break;
    if (pages_[page.value].residency != kNone) continue;
    if (!load_outside_plan(page)) {
      rollback();  // takes back what this lease holds, and holds every waiting lease that fits
      return;
    }
    pin(lease, pages_[page.value].residency);
    ++held;
  }
  count_accesses(lease);
}

void Core::count_accesses(Lease& lease) {
  const bool first = !std::exchange(lease.counted, true);
  for (const ResidencyId id : lease.residencies) {
    Residency& residency = residencies_[id];
    const bool fresh = std::exchange(residency.fresh, false);
    if (!first) continue;
    ++counters_.accesses;
    if (residency.state != ResidencyState::resident) {
      ++counters_.late;
    } else if (fresh) {
      ++counters_.prefetched;
    } else {
      ++counters_.hits;
    }
  }
}

void Core::drop_pins(Lease& lease) {
  for (const ResidencyId id : lease.residencies) {
    Residency& residency = residencies_[id];
    if (--residency.pins == 0) {
      --pinned_;
      residency.latest = false;
    }
  }
}

void Core::retry_blocked() {
  for (auto& [id, lease] : leases_) {
    if (!lease.blocked || !lease.failure.empty() || !fits(lease.pages)) continue;
    if (!lease.outside_plan) {
      rollback();  // holds every waiting lease that fits
      return;
    }
    hold_outside_plan(lease);
  }
}

/// If every caller that holds pages waits itself, nobody will release any: a budget that waits for
/// them fails, or else the newest waiting lease.
void Core::fail_deadlocked() {
  const bool budget_waits = alive_ - retiring_ > budget_;
  const auto newest = std::find_if(leases_.rbegin(), leases_.rend(), [](const auto& entry) {
    return entry.second.blocked && entry.second.failure.empty();
  });
  if (!budget_waits && newest == leases_.rend()) return;
  const bool all_wait = std::all_of(leases_.begin(), leases_.end(), [&](const auto& entry) {
    return entry.second.residencies.empty() || waits(entry.second.caller);
  });
  if (budget_waits && (all_wait || held_by(budget_caller_) > budget_)) {
    fail_waiting_budget();
  } else if (newest != leases_.rend() && all_wait) {
    newest->second.failure = "waiting would never end: the leases still held pin " +
                             pages_text(pinned_, options_.layout.page) + ", this one needs " +
                             pages_text(newest->second.pages.size(), options_.layout.page) +
                             ", the arena has " + pages_text(budget_, options_.layout.page) +
                             "; release leases earlier or give the arena more";
  }
}

/// Frames that were given up meanwhile do not come back: they are not the core's to create.
void Core::fail_waiting_budget() {
  budget_failure_ = "an arena of " + pages_text(budget_, options_.layout.page) +
                    " cannot be had: leases hold " + pages_text(pinned_, options_.layout.page) +
                    ", and their callers wait themselves; release leases first";
  change_budget(alive_);
  settle();
}

bool Core::waits(CallerId caller) const {
  if (budget_state() == BudgetState::waiting && caller == budget_caller_) return true;
  return std::any_of(leases_.begin(), leases_.end(), [&](const auto& entry) {
    return entry.second.caller == caller && entry.second.blocked && entry.second.failure.empty();
  });
}

std::uint32_t Core::held_by(CallerId caller) const {
  std::set<ResidencyId> held;
  for (const auto& [id, lease] : leases_) {
    if (lease.caller == caller) held.insert(lease.residencies.begin(), lease.residencies.end());
  }
  return static_cast<std::uint32_t>(held.size());
}

void Core::mark_granted() {
  for (auto& [id, lease] : leases_) {
    if (lease.granted || lease.blocked) continue;
    lease.granted = std::none_of(lease.residencies.begin(), lease.residencies.end(),
                                 [&](ResidencyId residency) {
                                   return residencies_[residency].state == ResidencyState::planned;
                                 });
  }
}

Core::ResidencyId Core::new_residency(PageIndex page, FrameIndex frame) {
  if (unused_residencies_.empty()) {
    unused_residencies_.push_back(static_cast<ResidencyId>(residencies_.size()));
    residencies_.emplace_back();
  }
  const ResidencyId id = unused_residencies_.back();
  unused_residencies_.pop_back();
  residencies_[id] = {};
  residencies_[id].page = page;
  residencies_[id].frame = frame;
  residencies_[id].state = ResidencyState::planned;
  frames_[frame.value].holder = id;
  return id;
}

void Core::free_residency(ResidencyId id) {
  residencies_[id].state = ResidencyState::gone;
  unused_residencies_.push_back(id);
}

void Core::enter_limbo(ResidencyId id, bool first) {
  residencies_[id].in_limbo = true;
  residencies_[id].limbo = limbo_.insert(first ? limbo_.begin() : limbo_.end(), id);
}

void Core::leave_limbo(ResidencyId id) {
  residencies_[id].in_limbo = false;
  limbo_.erase(residencies_[id].limbo);
}

}  // namespace tensor_pager
