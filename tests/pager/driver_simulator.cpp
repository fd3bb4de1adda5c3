// SPDX-License-Identifier: Apache-2.0
// The driver and the core together, with threads, streams and faults in any order.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "driver/driver.hpp"
#include "pager/errors.hpp"
#include "pager/memory_store.hpp"
#include "random.hpp"
#include "simulated_device.hpp"
#include "simulator.hpp"

namespace tensor_pager::testing {

namespace {

constexpr Bytes kPage{64};
constexpr std::uint32_t kIdleDraws = 1000;
constexpr std::uint32_t kEventsAfterFailure = 200;

[[noreturn]] void violated(const std::string& what) {
  throw std::logic_error("driver simulation: " + what);
}

void require(bool holds, const std::string& what) {
  if (!holds) violated(what);
}

/// Which calls fail, if any do.
enum class Faults : std::uint8_t { none, copies, refused_frames, any };

/// A store that is never read; pages arrive when the simulation says.
class SilentStore final : public BackingStore {
 public:
  explicit SilentStore(Bytes size) : size_(size) {}
  Bytes size() const override { return size_; }
  void read(Bytes, std::span<std::byte>) const override {}

 private:
  Bytes size_;
};

class DriverSimulation {
 public:
  explicit DriverSimulation(std::uint64_t seed)
      : random_(seed),
        pages_(random_.in(2, 24)),
        store_(kPage * pages_),
        streams_(random_.in(1, 3) + 1),
        device_(streams_),
        callers_(random_.in(1, 3)) {
    faults_ = random_.one_of({Faults::none, Faults::none, Faults::copies, Faults::copies,
                              Faults::refused_frames, Faults::any});
    device_.on_garbage = [this](std::uint32_t stream, LeaseId lease) {
      require(spoilt_leases_.contains({stream, lease}),
              "work read what a failed copy left, and nobody will be told");
    };
    device_.on_copy_ended = [this](CopyId copy, bool well) { note_end(copy, well); };
    device_.on_progress([this] { thread_awake_ = true; });
    start();
  }

  SimulationResult run(std::uint64_t events) {
    device_.fault = [this](const char* call) { return fails(call); };
    // Where nothing happens any more, draining shows whether anybody was forgotten.
    std::uint32_t draws = 0;  // since the last event
    while (result_.events < events && draws < kIdleDraws && after_failure_ < kEventsAfterFailure) {
      ++draws;
      if (!event()) continue;
      draws = 0;
      ++result_.events;
      after_failure_ += driver_->failed() ? 1 : 0;
      after_event();
    }
    if (random_.chance(50)) {
      destroy();
    } else {
      drain();
      destroy();
    }
    return result_;
  }

 private:
  enum class Doing : std::uint8_t {
    nothing,
    acquiring,
    queueing,
    budget,
    evicting,
    evicted,
    settling,
    checking,
    ending
  };
  struct Held {
    LeaseId id{};
    std::uint32_t stream = 0;
    std::vector<PageIndex> pages;
  };
  struct SimulatedCaller {
    Doing doing = Doing::nothing;
    bool awake = true;
    LeaseId lease{};
    std::uint32_t stream = 0;
    std::vector<PageIndex> pages;
    Driver::Moment moment{};
    std::uint64_t batch = 0;
    std::uint32_t frames = 0;
    std::vector<LeaseId> ending;
    Driver::End end{};
    std::vector<Held> held;
  };

  // ---- set-up

  void start() {
    frames_ = random_.in(1, pages_ + 2);
    frames_ = std::min(frames_, pages_);
    CoreOptions core{.layout = {kPage * pages_, kPage},
                     .frames = frames_,
                     .policy = {.window = random_.one_of<std::uint32_t>({0, 2, kWholePass}),
                                .prefetch_depth = random_.in(0, 5)},
                     .pages_per_copy = random_.in(1, 4),
                     .unmap_on_evict = random_.chance(30),
                     .host_pages_ready = false};
    PagerOptions options;
    options.publish = false;
    driver_.emplace(device_, store_, core, options);
    late_host_ = random_.chance(20);
    ready_.assign(pages_, !late_host_);
    if (!late_host_) driver_->host_bytes_ready({Bytes{0}, kPage * pages_});
    plan_ = random_plan();
    try {
      driver_->set_plan(plan_);
      planned_ = true;
    } catch (const BudgetError&) {
    }
    announce();
  }

  AccessPlan random_plan() {
    AccessPlan plan;
    const std::uint32_t most = std::max(1U, std::min(pages_, random_.in(1, 3)));
    std::uint32_t at = 0;
    const bool cyclic = random_.chance(60);
    for (std::uint32_t steps = random_.in(1, 12); steps > 0; --steps) {
      PlanStep step;
      for (std::uint32_t count = random_.in(1, most); count > 0; --count) {
        const std::uint32_t page = cyclic ? at++ % pages_ : random_.in(0, pages_ - 1);
        step.reads.push_back({kPage * page, kPage});
      }
      plan.steps.push_back(std::move(step));
    }
    return plan;
  }

  bool fails(const std::string& call) {
    switch (faults_) {
      case Faults::none:
        return false;
      case Faults::copies:
        return call == "the copy" && random_.chance(8);
      case Faults::refused_frames:
        return call == "create_frame" && random_.chance(30);
      case Faults::any:
        return call == "the copy" ? random_.chance(5) : random_.in(0, 999) < 2;
    }
    return false;
  }

  // ---- what a mutex and two condition variables do

  void announce() {
    if (driver_->take_news()) {
      for (SimulatedCaller& caller : callers_) caller.awake = true;
    }
    if (driver_->has_work() || driver_->has_unfenced()) thread_awake_ = true;
  }

  bool event() {
    const std::uint32_t pick = random_.in(0, 99);
    if (pick < 40)
      return step_caller(random_.in(0, static_cast<std::uint32_t>(callers_.size()) - 1));
    if (pick < 58) return step_thread();
    if (pick < 72) return end_copy();
    if (pick < 96) return device_.advance(random_.in(1, streams_ - 1));
    if (pick < 98) return capture();
    return host_page();
  }

  bool end_copy() {
    if (!device_.can_end_copy()) return false;
    device_.end_copy(!fails("the copy"));
    return true;
  }

  bool capture() {
    const std::uint32_t stream = random_.in(1, streams_ - 1);
    device_.capture(stream, !device_.captured(stream));
    return true;
  }

  bool host_page() {
    const std::uint32_t page = random_.in(0, pages_ - 1);
    if (ready_[page]) return false;
    ready_[page] = true;
    driver_->host_bytes_ready({kPage * page, kPage});
    announce();
    return true;
  }

  // ---- the pager's thread

  bool step_thread() {
    if (work_) {
      if (!outcome_) {
        outcome_ = driver_->carry_out(*work_);
        result_.copies += outcome_->started.size();
        return true;
      }
      driver_->carried_out(*work_, std::move(*outcome_));
      outcome_.reset();
      work_.reset();
      driver_->observe();
      take_work();
      announce();
      return true;
    }
    // Where a stream was captured it looks again by itself, now and then.
    if (!std::exchange(thread_awake_, false) && !driver_->has_unfenced()) return false;
    driver_->observe();
    take_work();
    announce();
    return true;
  }

  void take_work() {
    auto work = driver_->take_work();
    if (!work) return;
    require(!driver_->failed(), "the device is used although it has failed");
    work_ = std::move(*work);
  }

  // ---- callers

  bool step_caller(std::uint32_t index) {
    SimulatedCaller& caller = callers_[index];
    if (caller.doing == Doing::nothing) return begin(index, caller);
    if (caller.doing == Doing::queueing) return finish_acquire(caller);
    if (caller.doing == Doing::ending) return finish_release(caller);
    if (!caller.awake) return false;
    caller.awake = false;
    go_on(caller);
    announce();
    return true;
  }

  bool begin(std::uint32_t index, SimulatedCaller& caller) {
    const std::uint32_t pick = random_.in(0, 99);
    if (pick < 50) return begin_acquire(index, caller);
    if (pick < 86) return release(caller);
    if (closing_) return false;
    caller.awake = true;
    if (pick < 89) return begin_budget(index, caller);
    if (pick < 91) return begin_settling(caller, Doing::evicting);
    if (pick < 94) return begin_settling(caller, Doing::settling);
    if (pick < 98) {
      caller.stream = random_.in(1, streams_ - 1);
      driver_->observe();
      caller.doing = Doing::checking;
      announce();
      return true;
    }
    return change_plan();
  }

  bool change_plan() {
    if (driver_->failed()) return false;
    AccessPlan plan = random_plan();
    try {
      driver_->set_plan(plan);
      plan_ = std::move(plan);
      planned_ = true;
      step_ = 0;
    } catch (const BudgetError& error) {
      require(error.minimum() > kPage * driver_->budget(), "a plan that fits is refused");
    }
    announce();
    return true;
  }

  bool begin_settling(SimulatedCaller& caller, Doing what) {
    caller.moment = driver_->now();
    if (what == Doing::settling) driver_->observe();
    caller.doing = what;
    announce();
    return true;
  }

  bool begin_budget(std::uint32_t index, SimulatedCaller& caller) {
    if (driver_->changing_budget() || driver_->failed()) return false;
    caller.frames = std::min(random_.in(1, pages_ + 2), pages_);
    frames_before_ = driver_->budget();
    try {
      driver_->begin_budget(caller.frames, CallerId{index});
      caller.doing = Doing::budget;
    } catch (const BudgetError& error) {
      require(driver_->budget() == frames_before_, "a refused budget changed something");
      require(error.minimum() > kPage * caller.frames, "a budget that fits is refused");
    }
    announce();
    return true;
  }

  bool begin_acquire(std::uint32_t index, SimulatedCaller& caller) {
    if (caller.held.size() >= 3 || closing_) return false;
    caller.stream = random_.in(0, streams_ - 1);
    if (device_.captured(caller.stream)) return false;
    if (const auto report = driver_->take_report(SimulatedDevice::queue(caller.stream))) {
      count_report(*report, caller.stream);
      announce();
      return true;
    }
    if (driver_->failed()) return false;
    const Caller who{.id = CallerId{index},
                     .stream = SimulatedDevice::stream(caller.stream),
                     .queue = SimulatedDevice::queue(caller.stream)};
    try {
      if (planned_ && random_.chance(70)) {
        const auto steps = static_cast<std::uint32_t>(plan_.steps.size());
        if (random_.chance(3)) step_ = random_.in(0, steps - 1);
        const StepIndex step{std::exchange(step_, (step_ + 1) % steps)};
        const auto pages = pages_of({kPage * pages_, kPage}, plan_.steps[step.value].reads);
        caller.pages.assign(pages.begin(), pages.end());
        caller.lease = driver_->acquire(step, {}, who);
      } else {
        const std::uint32_t first = random_.in(0, pages_ - 1);
        const std::uint32_t count = random_.in(1, std::min(2U, pages_ - first));
        const ByteRange range{kPage * first, kPage * count};
        caller.pages.clear();
        for (std::uint32_t k = 0; k < count; ++k) caller.pages.push_back({first + k});
        caller.lease = driver_->acquire(std::span(&range, 1), who);
      }
    } catch (const BudgetError& error) {
      require(error.minimum() > kPage * driver_->budget(), "what fits the budget is refused");
      announce();
      return true;
    }
    ++result_.leases;
    caller.doing = Doing::acquiring;
    caller.awake = true;
    announce();
    return true;
  }

  void go_on(SimulatedCaller& caller) {
    switch (caller.doing) {
      case Doing::acquiring:
        return go_on_acquiring(caller);
      case Doing::budget:
        if (driver_->budget_answer() != Driver::Answer::waiting) end_budget(caller);
        return;
      case Doing::evicting:
        if (!driver_->settled(caller.moment)) return;
        if (driver_->failed()) return done(caller);
        driver_->evict_all();
        caller.batch = driver_->batch();
        caller.doing = Doing::evicted;
        caller.awake = true;
        return;
      case Doing::evicted:
        if (driver_->failed() || driver_->carried_out(caller.batch)) done(caller);
        return;
      case Doing::settling:
        if (!driver_->settled(caller.moment)) return;
        require(driver_->failed() || !device_.copying(caller.moment.copy),
                "settling does not wait for a copy");
        if (const auto report = driver_->take_all_reports()) count_report(*report, std::nullopt);
        return done(caller);
      case Doing::checking:
        if (!driver_->failed() && driver_->relying(SimulatedDevice::queue(caller.stream))) return;
        if (const auto report = driver_->take_report(SimulatedDevice::queue(caller.stream)))
          count_report(*report, caller.stream);
        return done(caller);
      case Doing::nothing:
      case Doing::queueing:
      case Doing::ending:
        return;
    }
  }

  static void done(SimulatedCaller& caller) { caller.doing = Doing::nothing; }

  void end_budget(SimulatedCaller& caller) {
    done(caller);
    try {
      driver_->end_budget();
      require(driver_->budget() == caller.frames, "the arena is not what was asked for");
      if (!work_) require(driver_->frames() == caller.frames, "frames are not what was asked for");
    } catch (const std::logic_error&) {
      throw;
    } catch (const Error&) {
      ++result_.failures;
      if (!driver_->failed())
        require(driver_->budget() >= driver_->frames(), "an arena that was refused has frames");
    }
  }

  void go_on_acquiring(SimulatedCaller& caller) {
    const Driver::Answer answer = driver_->answer(caller.lease);
    if (answer == Driver::Answer::waiting) return;
    if (answer == Driver::Answer::no) return abandon(caller);
    if (const auto copy = driver_->awaited(caller.lease)) {
      try {
        device_.copies().wait(SimulatedDevice::stream(caller.stream), *copy);
      } catch (const Error&) {
        driver_->observe();
        return abandon(caller);
      }
    }
    caller.doing = Doing::queueing;
  }

  void abandon(SimulatedCaller& caller) {
    driver_->abandon(caller.lease);
    ++result_.failures;
    done(caller);
  }

  /// The stream waits; meanwhile anything may have happened. Then the caller has its lease.
  bool finish_acquire(SimulatedCaller& caller) {
    driver_->observe();
    const std::exception_ptr failure = driver_->hand_out(caller.lease);
    if (failure) {
      driver_->abandon(caller.lease);
      ++result_.failures;
      done(caller);
      announce();
      return true;
    }
    hand_out(caller);
    announce();
    return true;
  }

  void hand_out(SimulatedCaller& caller) {
    done(caller);
    caller.held.push_back({caller.lease, caller.stream, caller.pages});
    std::set<CopyId> copies;
    for (const PageIndex page : caller.pages) {
      if (const auto copy = device_.copy_under_way(page)) copies.insert(*copy);
    }
    for (const CopyId copy : copies) {
      relying_.emplace(copy, std::pair(caller.stream, caller.lease));
    }
    if (caller.stream == 0) {
      device_.read(0, caller.lease, caller.pages);
    } else {
      device_.launch(caller.stream, caller.lease, caller.pages);
    }
  }

  bool release(SimulatedCaller& caller) {
    if (caller.held.empty()) return false;
    const std::size_t i = random_.in(0, static_cast<std::uint32_t>(caller.held.size()) - 1);
    const Held held = caller.held[i];
    caller.ending = {held.id};
    caller.held.erase(caller.held.begin() + static_cast<std::ptrdiff_t>(i));
    if (!driver_->has_stamps() && random_.in(0, 3) == 0) {  // all that the stream reads, together
      std::erase_if(caller.held, [&](const Held& other) {
        if (other.stream != held.stream) return false;
        caller.ending.push_back(other.id);
        return true;
      });
    }
    caller.end = driver_->end_work(SimulatedDevice::stream(held.stream));
    caller.doing = Doing::ending;  // without the mutex: the fence may pass before it is reported
    return true;
  }

  bool finish_release(SimulatedCaller& caller) {
    done(caller);
    driver_->release(caller.ending, caller.end);
    announce();
    return true;
  }

  // ---- what has to hold

  /// Whoever relies on a copy that failed is owed a report, once for each lease.
  void note_end(CopyId copy, bool well) {
    const auto [first, last] = relying_.equal_range(copy);
    for (auto it = first; !well && it != last; ++it) {
      ++owed_[it->second.first];
      spoilt_leases_.insert(it->second);
    }
    relying_.erase(first, last);
  }

  void count_report(const StreamReport& report, std::optional<std::uint32_t> stream) {
    require(report.first != nullptr && report.copies > 0, "a report of nothing");
    if (stream) {
      told_[*stream] += report.copies;
    } else {
      told_by_settle_ += report.copies;
    }
    result_.failures += report.copies;
    std::uint64_t told = told_by_settle_;
    for (const auto& [of, copies] : told_) {
      told += copies;
      require(copies <= owed_[of], "a failure is reported twice, or to the wrong stream");
    }
    require(told <= owed(), "a failure is reported twice");
  }

  std::uint64_t owed() const {
    std::uint64_t owed = 0;
    for (const auto& [stream, copies] : owed_) owed += copies;
    return owed;
  }
  std::uint64_t told() const {
    std::uint64_t told = told_by_settle_;
    for (const auto& [stream, copies] : told_) told += copies;
    return told;
  }

  void after_event() {
    driver_->check_invariants();
    if (!driver_->failed() && !work_ && !driver_->has_work()) {
      require(driver_->frames() == device_.frames(), "frames are counted that do not exist");
    }
    if (!thread_awake_ && !work_) {
      require(!driver_->has_work(), "the thread sleeps while there is work");
      require(driver_->failed() || !device_.has_news(), "the thread sleeps while there is news");
    }
    for (const SimulatedCaller& caller : callers_) {
      if (!caller.awake && sleeps(caller))
        require(!answered(caller), "a caller sleeps while its answer is known: " +
                                       std::to_string(static_cast<int>(caller.doing)));
    }
  }

  static bool sleeps(const SimulatedCaller& caller) {
    return caller.doing != Doing::nothing && caller.doing != Doing::queueing &&
           caller.doing != Doing::ending;
  }

  bool answered(const SimulatedCaller& caller) const {
    switch (caller.doing) {
      case Doing::acquiring:
        return driver_->answer(caller.lease) != Driver::Answer::waiting;
      case Doing::budget:
        return driver_->budget_answer() != Driver::Answer::waiting;
      case Doing::evicting:
      case Doing::settling:
        return driver_->settled(caller.moment);
      case Doing::evicted:
        return driver_->failed() || driver_->carried_out(caller.batch);
      case Doing::checking:
        return driver_->failed() || !driver_->relying(SimulatedDevice::queue(caller.stream));
      case Doing::nothing:
      case Doing::queueing:
      case Doing::ending:
        return false;
    }
    return false;
  }

  /// Whatever can happen without a new call happens. No caller may be left waiting, and what failed
  /// was told.
  void drain() {
    closing_ = true;
    faults_ = Faults::none;
    for (std::uint32_t stream = 0; stream < streams_; ++stream) device_.capture(stream, false);
    driver_->observe();
    announce();
    require(!driver_->has_unfenced(), "a lease that ended in a capture stays for ever");
    for (std::uint32_t page = 0; page < pages_; ++page) {
      if (ready_[page]) continue;
      ready_[page] = true;
      driver_->host_bytes_ready({kPage * page, kPage});
      announce();
    }
    for (int rounds = 0; go_round(); ++rounds)
      require(rounds < 10000, "callers never come to rest");
    for (const SimulatedCaller& caller : callers_) {
      require(caller.doing == Doing::nothing, "a caller waits for ever: " + state_of_callers());
      require(caller.held.empty(), "a lease was not released");
    }
    driver_->observe();
    if (const auto report = driver_->take_all_reports()) count_report(*report, std::nullopt);
    require(told() == owed(), "a failure was never reported: " + std::to_string(told()) + " of " +
                                  std::to_string(owed()) + ";" + state_of_callers());
  }

  std::string state_of_callers() const {
    std::string text = driver_->failed() ? "device failed;" : "";
    for (const SimulatedCaller& caller : callers_) {
      text += " [doing " + std::to_string(static_cast<int>(caller.doing)) + ", needs " +
              std::to_string(caller.pages.size()) + ", holds " +
              std::to_string(caller.held.size()) + " leases]";
    }
    return text + ", budget " + std::to_string(driver_->budget()) + ", frames " +
           std::to_string(driver_->frames());
  }

  bool go_round() {
    bool progress = false;
    const auto note = [&](bool happened) {
      progress = progress || happened;
      if (happened) after_event();
    };
    note(step_thread());
    note(end_copy());
    for (std::uint32_t stream = 1; stream < streams_; ++stream) note(device_.advance(stream));
    for (std::uint32_t i = 0; i < callers_.size(); ++i) {
      SimulatedCaller& caller = callers_[i];
      note(caller.doing == Doing::nothing ? release(caller) : step_caller(i));
    }
    return progress;
  }

  /// The end of the pager at any moment: leases may be held, work queued.
  void destroy() {
    closing_ = true;
    for (SimulatedCaller& caller : callers_) {
      if (caller.doing == Doing::ending) finish_release(caller);
      if (caller.doing == Doing::acquiring || caller.doing == Doing::queueing)
        driver_->abandon(caller.lease);
      caller.doing = Doing::nothing;
    }
    driver_->end_all_leases();
    for (int rounds = 0; !driver_->quiet(); ++rounds) {
      require(rounds < 10000, "the end of the pager waits for ever");
      if (work_) {
        step_thread();
      } else {
        driver_->observe();
      }
      end_copy();
      for (std::uint32_t stream = 1; stream < streams_; ++stream) device_.advance(stream);
    }
    require(driver_->lost_track() || !device_.reads_queued(),
            "the pager ends while queued work reads its pages");
    require(driver_->lost_track() || !device_.can_end_copy(),
            "the pager ends while a copy is under way");
  }

  Random random_;
  std::uint32_t pages_;
  SilentStore store_;
  std::uint32_t streams_;
  SimulatedDevice device_;
  std::vector<SimulatedCaller> callers_;
  Faults faults_ = Faults::none;
  std::uint32_t frames_ = 0;
  std::uint32_t frames_before_ = 0;
  AccessPlan plan_;
  bool planned_ = false;
  std::uint32_t step_ = 0;
  bool late_host_ = false;
  bool closing_ = false;
  std::uint32_t after_failure_ = 0;
  std::vector<bool> ready_;
  std::optional<Driver> driver_;
  bool thread_awake_ = true;
  std::optional<Driver::Work> work_;
  std::optional<Driver::Outcome> outcome_;

  std::multimap<CopyId, std::pair<std::uint32_t, LeaseId>> relying_;
  std::set<std::pair<std::uint32_t, LeaseId>> spoilt_leases_;
  std::map<std::uint32_t, std::uint64_t> owed_;  // by stream: failures that its work met
  std::map<std::uint32_t, std::uint64_t> told_;
  std::uint64_t told_by_settle_ = 0;
  SimulationResult result_;
};

}  // namespace

SimulationResult simulate_driver(std::uint64_t seed, std::uint64_t events) {
  return DriverSimulation(seed).run(events);
}

SimulationResult simulate(Subject subject, std::uint64_t seed, std::uint64_t events) {
  return subject == Subject::core ? simulate(seed, events) : simulate_driver(seed, events);
}

std::string replay_command(Subject subject, std::uint64_t seed, std::uint64_t events) {
  return std::string("core_simulator ") + (subject == Subject::driver ? "--driver " : "") +
         "--first-seed " + std::to_string(seed) + " --seeds 1 --events " + std::to_string(events);
}

}  // namespace tensor_pager::testing
