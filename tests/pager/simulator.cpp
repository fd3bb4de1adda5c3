// SPDX-License-Identifier: Apache-2.0
#include "simulator.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/core.hpp"
#include "pager/errors.hpp"
#include "random.hpp"

namespace tensor_pager::testing {

namespace {

constexpr Bytes kPage{64};
constexpr const char* kCopyFailure = "simulated failure";

[[noreturn]] void violated(const std::string& what) {
  throw std::logic_error("simulation: " + what);
}

void require(bool holds, const std::string& what) {
  if (!holds) violated(what);
}

ByteRange bytes_of_pages(std::uint32_t first, std::uint32_t count) {
  return {kPage * first, kPage * count};
}

/// Every page once, a few in each step: a pass whose kept pages can be spread.
AccessPlan regular_plan(Random& random, std::uint32_t pages) {
  AccessPlan plan;
  const std::uint32_t most = random.in(1, 3);
  for (std::uint32_t at = 0; at < pages;) {
    const std::uint32_t count = std::min(random.in(1, most), pages - at);
    plan.steps.push_back({.reads = {bytes_of_pages(at, count)}});
    at += count;
  }
  return plan;
}

AccessPlan random_plan(Random& random, std::uint32_t pages) {
  if (random.chance(30)) return regular_plan(random, pages);
  AccessPlan plan;
  const std::uint32_t steps = random.in(1, 20);
  const std::uint32_t most = std::max(1U, std::min(pages, random.in(1, 5)));
  const bool cyclic = random.chance(50);
  const bool choices = random.chance(30);
  std::uint32_t at = 0;
  for (std::uint32_t i = 0; i < steps; ++i) {
    PlanStep step;
    const std::uint32_t count = random.in(choices ? 0 : 1, most);
    for (std::uint32_t k = 0; k < count; ++k) {
      const std::uint32_t page = cyclic ? at++ % pages : random.in(0, pages - 1);
      step.reads.push_back(bytes_of_pages(page, 1));
    }
    if (choices && random.chance(40)) {
      for (std::uint32_t k = random.in(1, 6); k-- > 0;) {
        step.choices.push_back(bytes_of_pages(random.in(0, pages - 1), 1));
      }
      step.choose_at_most = random.in(1, 3);
    }
    plan.steps.push_back(std::move(step));
  }
  return plan;
}

/// What the commands amount to. It knows the page that each frame really holds, and who reads it.
class SimulatedDevice {
 public:
  void create(FrameIndex frame) {
    require(frames_.emplace(frame, Frame{}).second, "a frame is created twice");
  }

  void destroy(FrameIndex frame) {
    require_unused(frame, "destroyed");
    for (const auto& [page, mapped] : mapped_)
      require(mapped != frame, "a destroyed frame is still mapped");
    require(frames_.erase(frame) == 1, "a frame that does not exist is destroyed");
  }

  /// Several pages may point to a frame, whatever is in it.
  void map(PageIndex page, FrameIndex frame) {
    require(frames_.contains(frame), "a page is mapped to a frame that does not exist");
    require_unread(page, "mapped elsewhere");
    mapped_[page] = frame;
  }

  void unmap(PageIndex page) {
    require_unread(page, "unmapped");
    mapped_.erase(page);
  }

  void start_copy(PageIndex page) {
    require(mapped_.contains(page), "a page without a frame is copied");
    const FrameIndex frame = mapped_.at(page);
    require_unused(frame, "written");
    frames_.at(frame).content.reset();
    frames_.at(frame).writing = true;
    copies_.push_back(page);
  }

  /// Any copy may be the next to end, not only the oldest.
  PageIndex end_copy(std::size_t i, bool success) {
    const PageIndex page = copies_.at(i);
    copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(i));
    Frame& frame = frames_.at(mapped_.at(page));
    frame.writing = false;
    if (success) frame.content = page;
    return page;
  }

  bool copying(PageIndex page) const {
    return std::count(copies_.begin(), copies_.end(), page) != 0;
  }
  bool holds(PageIndex page) const {
    const auto mapped = mapped_.find(page);
    return mapped != mapped_.end() && frames_.at(mapped->second).content == page;
  }
  std::size_t copies() const { return copies_.size(); }
  std::size_t frames() const { return frames_.size(); }

  void start_reading(PageIndex page) { ++frames_.at(mapped_.at(page)).readers; }
  void stop_reading(PageIndex page) {
    require(holds(page), "a page left its frame while work read it");
    --frames_.at(mapped_.at(page)).readers;
  }

 private:
  struct Frame {
    std::optional<PageIndex> content;
    bool writing = false;
    std::uint32_t readers = 0;
  };

  void require_unused(FrameIndex frame, const std::string& action) const {
    const auto found = frames_.find(frame);
    require(found != frames_.end(), "a frame that does not exist is " + action);
    require(!found->second.writing, "a frame is " + action + " while a copy writes it");
    require(found->second.readers == 0, "a frame is " + action + " while work reads it");
  }
  void require_unread(PageIndex page, const std::string& action) const {
    const auto mapped = mapped_.find(page);
    if (mapped == mapped_.end() || !frames_.contains(mapped->second)) return;
    require(!copying(page), "a page is " + action + " while it is copied");
    const Frame& frame = frames_.at(mapped->second);
    require(frame.content != page || frame.readers == 0,
            "a page is " + action + " while work reads it");
  }

  std::map<FrameIndex, Frame> frames_;
  std::map<PageIndex, FrameIndex> mapped_;
  std::deque<PageIndex> copies_;
};

class Simulation {
 public:
  explicit Simulation(std::uint64_t seed)
      : random_(seed),
        pages_(random_.in(1, 40)),
        plan_(random_plan(random_, pages_)),
        core_(options()) {
    for (std::uint32_t frame = 0; frame < budget_; ++frame) device_.create({frame});
    try {
      core_.set_plan(plan_);
      planned_ = true;
    } catch (const BudgetError& error) {
      budget_ = static_cast<std::uint32_t>(error.minimum() / kPage);
      set_budget(budget_, 0);
      core_.set_plan(plan_);  // the minimum that the error names must do
      planned_ = true;
    }
    after_event();
  }

  SimulationResult run(std::uint64_t events) {
    // A draw that finds nothing to do is not an event.
    while (result_.events < events) {
      if (!event()) continue;
      ++result_.events;
      after_event();
    }
    drain();
    return result_;
  }

 private:
  enum class Holding : std::uint8_t { waiting, granted };
  struct Lease {
    LeaseId id;
    std::uint32_t caller;
    std::uint32_t stream;
    Holding holding = Holding::waiting;
    std::vector<PageIndex> pages;
    bool reading = false;
    bool judged = false;  // its failure was found to be right
  };
  struct Fence {
    FenceId id;
    std::vector<PageIndex> reads;   // frames stay read until the fence passes
    std::vector<PageIndex> awaits;  // copies that the stream waits for before
  };

  CoreOptions options() {
    budget_ = random_.in(1, pages_ + 3);
    late_host_ = random_.chance(20);
    failing_ = random_.chance(30);
    streams_ = random_.in(1, 3);
    callers_ = random_.in(1, 3);
    walk_apart_ = random_.chance(30);
    outside_percent_ = random_.chance(50) ? 15 : 1;
    for (std::uint32_t i = 0; i < 3; ++i) favourites_.push_back(random_.in(0, pages_ - 1));
    next_step_.assign(callers_, 0);
    most_held_ = random_.in(1, 4);
    host_ready_.assign(pages_, !late_host_);
    waiting_.assign(callers_, false);
    fences_.resize(streams_);
    return {
        .layout = {kPage * pages_, kPage},
        .frames = budget_,
        .policy = {.window = random_.one_of<std::uint32_t>({0, 1, 3, 7, kWholePass, kWholePass}),
                   .prefetch_depth = random_.chance(30) ? kWholeSteps : random_.in(0, 6)},
        .pages_per_copy = random_.in(1, 4),
        .unmap_on_evict = random_.chance(30),
        .host_pages_ready = !late_host_};
  }

  bool event() {
    if (random_.chance(outside_percent_)) return acquire_outside();
    const std::uint32_t pick = random_.in(0, 99);
    if (pick < 30) return acquire();
    if (pick < 55) return release();
    if (pick < 75) return end_copy();
    if (pick < 92) return pass_fence(random_.in(0, streams_ - 1));
    if (pick < 96) return host_page();
    if (pick < 97) return change_budget();
    if (pick < 98) return evict_all();
    if (pick < 99) return change_plan();
    return prefetch();
  }

  std::optional<std::uint32_t> idle_caller() {
    const std::uint32_t caller = random_.in(0, callers_ - 1);
    const auto held = std::count_if(leases_.begin(), leases_.end(),
                                    [&](const Lease& l) { return l.caller == caller; });
    if (waiting_[caller] || held >= most_held_) return std::nullopt;
    return caller;
  }

  bool acquire() {
    const auto caller = idle_caller();
    if (!caller || !planned_) return false;
    const auto steps = static_cast<std::uint32_t>(plan_.steps.size());
    std::uint32_t& next = next_step_[walk_apart_ ? *caller : 0];
    if (random_.chance(2)) next = random_.in(0, steps - 1);
    const StepIndex step{next};
    next = (next + 1) % steps;
    const PlanStep& planned = plan_.steps[step.value];
    std::vector<ByteRange> chosen;
    if (!planned.choices.empty()) {
      const std::uint32_t count = random_.in(0, planned.choose_at_most);
      for (std::uint32_t k = 0; k < count; ++k) {
        chosen.push_back(
            planned.choices[random_.in(0, static_cast<std::uint32_t>(planned.choices.size()) - 1)]);
      }
    }
    add_lease(core_.acquire(step, chosen, CallerId{*caller}), *caller);
    return true;
  }

  bool acquire_outside() {
    const auto caller = idle_caller();
    if (!caller) return false;
    const ByteRange range = some_pages();
    try {
      add_lease(core_.acquire(std::span(&range, 1), CallerId{*caller}), *caller);
    } catch (const BudgetError& error) {
      require(error.minimum() > kPage * budget_, "what fits the budget is refused");
    }
    return true;
  }

  bool prefetch() {
    const ByteRange range = some_pages();
    core_.prefetch(std::span(&range, 1));
    return true;
  }

  /// Often the same ones.
  ByteRange some_pages() {
    if (random_.chance(50)) return bytes_of_pages(favourites_[random_.in(0, 2)], 1);
    const std::uint32_t first = random_.in(0, pages_ - 1);
    return bytes_of_pages(first, random_.in(1, std::min(3U, pages_ - first)));
  }

  void add_lease(LeaseId id, std::uint32_t caller) {
    const auto pages = core_.pages(id);
    leases_.push_back({.id = id,
                       .caller = caller,
                       .stream = random_.in(0, streams_ - 1),
                       .pages = {pages.begin(), pages.end()}});
    waiting_[caller] = true;
    ++result_.leases;
  }

  bool release() {
    if (leases_.empty()) return false;
    const std::size_t i = random_.in(0, static_cast<std::uint32_t>(leases_.size()) - 1);
    if (leases_[i].holding != Holding::granted) return false;
    release(i);
    return true;
  }

  void release(std::size_t i) {
    Lease lease = std::move(leases_[i]);
    leases_.erase(leases_.begin() + static_cast<std::ptrdiff_t>(i));
    const FenceId fence{++next_fence_};
    Fence record{.id = fence, .reads = {}, .awaits = lease.pages};
    if (lease.reading) record.reads = lease.pages;
    fences_[lease.stream].push_back(std::move(record));
    core_.release(lease.id, fence);
  }

  bool end_copy() {
    if (device_.copies() == 0) return false;
    const std::size_t i = random_.in(0, static_cast<std::uint32_t>(device_.copies()) - 1);
    const bool success = !failing_ || !random_.chance(5);
    const PageIndex page = device_.end_copy(i, success);
    if (success) {
      copied_in_.insert(page.value);
      core_.copy_finished(page);
    } else {
      core_.copy_failed(page, kCopyFailure);
    }
    return true;
  }

  /// The oldest fence of a stream passes, once the copies that the stream waits for have ended.
  bool pass_fence(std::uint32_t stream) {
    if (fences_[stream].empty()) return false;
    const Fence& fence = fences_[stream].front();
    const auto copying = [&](PageIndex page) { return device_.copying(page); };
    if (std::any_of(fence.awaits.begin(), fence.awaits.end(), copying)) return false;
    for (const PageIndex page : fence.reads) device_.stop_reading(page);
    const FenceId id = fence.id;
    fences_[stream].pop_front();
    core_.fence_passed(id);
    return true;
  }

  bool host_page() {
    const std::uint32_t page = random_.in(0, pages_ - 1);
    if (host_ready_[page]) return false;
    host_ready_[page] = true;
    core_.host_page_ready({page});
    return true;
  }

  bool change_budget() {
    const std::uint32_t caller = random_.in(0, callers_ - 1);
    if (waiting_[caller]) return false;
    const std::uint32_t budget = random_.in(1, pages_ + 3);
    try {
      set_budget(budget, caller);
    } catch (const BudgetError& error) {
      require(error.minimum() == kPage * core_.minimum_frames() && budget < core_.minimum_frames(),
              "a budget is refused that the plan fits");
    }
    return true;
  }

  /// The device may refuse a frame; then the core hears nothing of it.
  void set_budget(std::uint32_t budget, std::uint32_t caller) {
    const std::vector<FrameIndex> missing = core_.frames_to_create(budget);
    for (std::size_t i = 0; i < missing.size(); ++i) {
      if (planned_ && random_.chance(5)) {
        for (std::size_t k = 0; k < i; ++k) device_.destroy(missing[k]);
        return;
      }
      device_.create(missing[i]);
    }
    core_.set_budget(budget, CallerId{caller});
    asked_ = budget;
    if (resizing_) waiting_[*resizing_] = false;  // this change takes the place of that one
    resizing_ = caller;
    waiting_[caller] = true;
  }

  /// A change of the budget may fail only if all who hold pages wait, or its caller holds too many.
  void observe_budget() {
    budget_ = core_.budget();
    if (!resizing_ || core_.budget_state() == BudgetState::waiting) return;
    if (core_.budget_state() == BudgetState::failed) {
      ++result_.refused_budgets;
      require(!core_.budget_failure().empty(), "a change of the budget fails without a reason");
      std::set<PageIndex> own;
      for (const Lease& lease : leases_) {
        if (lease.caller == *resizing_ && core_.state(lease.id) != LeaseState::blocked)
          own.insert(lease.pages.begin(), lease.pages.end());
      }
      if (own.size() <= asked_) require_deadlock();
      require(core_.frames() == core_.budget(), "a budget that failed is not what exists");
    }
    waiting_[*resizing_] = false;
    resizing_.reset();
  }

  bool evict_all() {
    core_.evict_all();
    return true;
  }

  bool change_plan() {
    AccessPlan plan = random_plan(random_, pages_);
    if (random_.chance(30)) plan.prefetch_depth = random_.in(0, 8);
    try {
      core_.set_plan(plan);
      plan_ = std::move(plan);
      next_step_.assign(callers_, 0);
    } catch (const BudgetError& error) {
      require(error.minimum() > kPage * budget_, "a plan is refused that fits the budget");
    }
    return true;
  }

  void after_event() {
    execute();
    observe_budget();
    observe_leases();
    asked_ = budget_ = core_.budget();
    if (core_.homes() && core_.spread()) ++result_.rings;
    if (core_.several_walkers()) ++result_.several_walkers;
    core_.check_invariants();
    require(core_.frames() == device_.frames(), "the core's count of frames is not the device's");
    most_frames_ = std::max<std::size_t>(budget_, std::min(most_frames_, device_.frames()));
    require(device_.frames() <= most_frames_, "more frames exist than the budget allows");
    require(core_.counters().loads == result_.copies,
            "the core's count of copies is not the device's");
  }

  void execute() {
    const Commands commands = core_.take_commands();
    for (const PageIndex page : commands.evicted) {
      require(copied_in_.erase(page.value) == 1, "a page is evicted that was not copied in");
    }
    for (const Remap& remap : commands.remaps) {
      if (const auto* destroy = std::get_if<DestroyFrame>(&remap)) device_.destroy(destroy->frame);
      if (const auto* map = std::get_if<MapPage>(&remap)) device_.map(map->page, map->frame);
      if (const auto* unmap = std::get_if<UnmapPage>(&remap)) device_.unmap(unmap->page);
    }
    for (const PageRun& run : commands.copies) {
      for (std::uint32_t k = 0; k < run.count; ++k) {
        const PageIndex page{run.first.value + k};
        require(host_ready_[page.value], "a page is copied that is not on the host");
        device_.start_copy(page);
        ++result_.copies;
      }
    }
  }

  /// A caller goes on when all copies that it needs were commanded: its stream waits for them, and
  /// then reads.
  void observe_leases() {
    for (Lease& lease : leases_) {
      const LeaseState state = core_.state(lease.id);
      if (lease.holding == Holding::waiting &&
          (state == LeaseState::loading || state == LeaseState::ready)) {
        lease.holding = Holding::granted;
        waiting_[lease.caller] = false;
      }
      if (!lease.reading && state == LeaseState::ready) start_reading(lease);
    }
    const auto failed = [&](const Lease& lease) {
      return core_.state(lease.id) == LeaseState::failed;
    };
    const auto first = std::find_if(leases_.begin(), leases_.end(), failed);
    if (first == leases_.end()) return;
    for (Lease& lease : leases_) {
      if (!failed(lease) || std::exchange(lease.judged, true)) continue;
      if (core_.failure(lease.id) != kCopyFailure &&
          lease.pages.size() <= std::min(budget_, asked_))
        require_deadlock();
    }
    fail(static_cast<std::size_t>(first - leases_.begin()));
    observe_leases();  // what one lease lets go may decide the fate of others
  }

  void start_reading(Lease& lease) {
    for (const PageIndex page : lease.pages) {
      require(device_.holds(page), "a lease is ready, but its page is not in its frame");
      device_.start_reading(page);
    }
    lease.reading = true;
  }

  /// A lease may be told that waiting is in vain only if others hold pages, and all of them wait,
  /// too.
  void require_deadlock() const {
    std::size_t held = 0;
    for (const Lease& lease : leases_) {
      if (lease.holding != Holding::granted || lease.pages.empty()) continue;
      ++held;
      require(waiting_[lease.caller],
              "waiting is called endless although another caller could release what it waits for");
    }
    require(held != 0, "waiting is called endless although nothing is held");
  }

  void fail(std::size_t i) {
    ++result_.failures;
    const Lease lease = std::move(leases_[i]);
    leases_.erase(leases_.begin() + static_cast<std::ptrdiff_t>(i));
    if (lease.holding == Holding::waiting) waiting_[lease.caller] = false;
    if (lease.reading) {
      for (const PageIndex page : lease.pages) device_.stop_reading(page);
    }
    core_.release(lease.id, std::nullopt);
    execute();
  }

  /// Whatever can happen without a caller happens; then everybody lets go. Nobody may be left
  /// waiting.
  void drain() {
    failing_ = false;
    for (std::uint32_t page = 0; page < pages_; ++page) {
      if (!host_ready_[page]) core_.host_page_ready({page});
      host_ready_[page] = true;
      after_event();
    }
    while (true) {
      settle_device();
      const auto held = std::find_if(leases_.begin(), leases_.end(), [&](const Lease& lease) {
        return lease.holding == Holding::granted && !waiting_[lease.caller];
      });
      if (held == leases_.end()) break;
      for (const Lease& lease : leases_) {
        const LeaseState state = core_.state(lease.id);
        require(state == LeaseState::ready || state == LeaseState::blocked, "a wake-up was lost");
      }
      release(static_cast<std::size_t>(held - leases_.begin()));
      after_event();
    }
    require(leases_.empty(), "a lease waits, and nobody will release what it waits for");
    settle_device();
    require(core_.frames() == core_.budget(), "frames are missing after everything was released");
  }

  void settle_device() {
    bool progress = true;
    while (progress) {
      progress = device_.copies() != 0;
      while (device_.copies() != 0) {
        end_copy();
        after_event();
      }
      for (std::uint32_t stream = 0; stream < streams_; ++stream) {
        while (pass_fence(stream)) {
          progress = true;
          after_event();
        }
      }
    }
  }

  Random random_;
  std::uint32_t pages_;
  AccessPlan plan_;
  bool planned_ = false;
  std::uint32_t budget_ = 0;
  bool late_host_ = false;
  bool failing_ = false;
  std::uint32_t streams_ = 1;
  std::uint32_t callers_ = 1;
  bool walk_apart_ = false;
  std::uint32_t outside_percent_ = 1;
  std::vector<std::uint32_t> favourites_;
  std::uint32_t most_held_ = 1;
  std::vector<std::uint32_t> next_step_;  // by caller, or the first of all
  std::vector<bool> host_ready_;
  std::vector<bool> waiting_;              // by caller
  std::optional<std::uint32_t> resizing_;  // the caller who changes the budget
  std::uint32_t asked_ = 0;                // in this event, as the budget
  std::vector<std::deque<Fence>> fences_;
  Core core_;
  std::set<std::uint32_t> copied_in_;  // pages, until they are evicted

  SimulatedDevice device_;
  std::size_t most_frames_ = 1000;
  std::vector<Lease> leases_;
  std::uint64_t next_fence_ = 0;
  SimulationResult result_;
};

}  // namespace

SimulationResult simulate(std::uint64_t seed, std::uint64_t events) {
  return Simulation(seed).run(events);
}

}  // namespace tensor_pager::testing
