// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/core.hpp"
#include "driver/stream_reports.hpp"
#include "pager/device.hpp"
#include "pager/pager.hpp"
#include "pager/statistics.hpp"
#include "views/lease_timings.hpp"
#include "views/pager_view.hpp"
#include "views/profiler.hpp"

namespace tensor_pager {

/// Who acquires: a thread, for a stream.
struct Caller {
  CallerId id{};
  StreamRef stream{};
  StreamId queue{};  ///< what the device's clock calls the stream
};

/// What stands between a core and a device: it carries out what the core decides, tells it what
/// the device reports, and knows what each caller may be told. It has no threads, locks or waits:
/// `Pager` calls it under a mutex, the driver's simulator in every order that threads might.
///
/// Callers that wait look at their answer again whenever take_news() says so. Whatever takes time
/// on the device is Work, which a thread takes, carries out without the mutex, and reports back.
///
/// An error of the device that is nobody's fault alone (it refuses to map, cannot say what has
/// ended, cannot note where a stream is) is final: nothing is carried out any more, so that nothing
/// is taken from queued work, and every later call says why.
class Driver {
 public:
  /// Reserves the range and creates the frames. Throws what the device throws; the device's
  /// destruction returns what it had given by then.
  Driver(Device& device, const BackingStore& store, const CoreOptions& core,
         const PagerOptions& options);
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  /// Throws why the device is not used any more.
  void require_usable() const;
  bool failed() const { return fatal_ != nullptr; }
  /// Whether queued work may read pages although no fence says when it is done: then nothing may
  /// ever be unmapped.
  bool lost_track() const { return lost_track_ || !unfenced_.empty(); }

  void set_plan(const AccessPlan& plan);

  /// Throws BudgetError and Error as Core does. Otherwise the lease is the caller's to wait for
  /// (`answer`), and to hand out or to abandon.
  LeaseId acquire(StepIndex step, std::span<const ByteRange> chosen, const Caller& caller);
  LeaseId acquire(std::span<const ByteRange> ranges, const Caller& caller);
  /// Throws BudgetError if holding these pages for good would leave too little for the plan.
  void require_room_beside(std::span<const ByteRange> ranges) const;
  void prefetch(std::span<const ByteRange> ranges);
  /// Whether all of the pages are resident.
  bool resident(std::span<const ByteRange> ranges) const;

  enum class Answer : std::uint8_t { waiting, yes, no };
  /// Whether every copy that the lease needs is in the device's queue.
  Answer answer(LeaseId lease) const;
  /// The copy that the stream has to wait for, if there is one; from here on the lease relies on
  /// it.
  std::optional<CopyId> awaited(LeaseId lease);
  /// The stream waits for that copy, or need not. Returns why the lease cannot be handed out after
  /// all.
  std::exception_ptr hand_out(LeaseId lease);
  /// The caller does not get the lease. Returns why, if the driver knows.
  std::exception_ptr abandon(LeaseId lease);

  /// Stamps and fences the end of a lease's work: device calls, without the driver's state.
  struct End {
    std::optional<FenceId> fence;
    std::optional<StampId> stamp;
    std::exception_ptr failure;  ///< there is no fence, and the work may be under way
    bool later = false;          ///< there can be none yet: the stream is being captured
  };
  End end_work(StreamRef stream);
  /// Of leases whose work has ended there. Where ends are stamped (has_stamps), of one.
  void release(std::span<const LeaseId> leases, const End& end);
  bool has_stamps() const;
  /// Whether leases have ended whose fence could not be recorded yet: observe() tries again.
  bool has_unfenced() const { return !unfenced_.empty(); }

  /// What the stream's owner was not told yet.
  std::optional<StreamReport> take_report(StreamId stream) { return reports_.take(stream); }
  std::optional<StreamReport> take_all_reports() { return reports_.take_all(); }
  /// Whether work in the stream relies on copies that have not ended.
  bool relying(StreamId stream) const { return reports_.relying(stream); }

  /// A change of the arena, to be waited for. One at a time.
  bool changing_budget() const { return change_.has_value(); }
  void begin_budget(std::uint32_t frames, CallerId caller);
  Answer budget_answer() const;
  /// Forgets the change; throws why it failed.
  void end_budget();

  /// A moment, and what was under way then.
  struct Moment {
    std::uint64_t events = 0;
    FenceId fence{};
    CopyId copy{};
  };
  Moment now() const;
  /// Whether nothing is under way, or, if callers have gone on meanwhile, nothing that was then.
  bool settled(const Moment& moment) const;

  void evict_all();
  /// The number of the batch that will have carried out everything commanded so far.
  std::uint64_t batch() const { return batches_ + (core_.has_commands() ? 1U : 0U); }
  bool carried_out(std::uint64_t batch) const { return done_ >= batch; }

  void host_bytes_ready(ByteRange range);

  /// What the device has to do next, in the order in which it is given.
  struct Work {
    Commands commands;
    std::vector<FrameIndex> frames;  ///< to create
  };
  struct Copy {
    CopyId id{};
    PageRun pages;
    ProfilerSpan span;
  };
  struct Outcome {
    std::vector<Copy> started;
    std::exception_ptr failure;         ///< of the commands
    std::exception_ptr frames_failure;  ///< none of the frames was created
  };
  bool has_work() const;
  std::optional<Work> take_work();
  /// Device calls, without the driver's state.
  Outcome carry_out(const Work& work) const;
  void carried_out(const Work& work, Outcome outcome);

  /// Takes what the device reports.
  void observe();
  /// Whether something has changed that a caller may be waiting for.
  bool take_news() { return std::exchange(news_, false); }

  /// Fences the work of leases that are held, as if they ended: what the end of the pager waits
  /// for.
  void end_all_leases();
  /// Whether no queued work reads pages and no copy writes them, as far as anybody can know.
  bool quiet() const;

  Statistics statistics(const LinkStatistics& link, const MemoryStatistics& memory) const;
  /// With what only the device knows, which takes its locks.
  void publish_all();
  Bytes minimum_arena() const;
  std::uint32_t frames() const { return core_.frames(); }
  std::uint32_t budget() const { return core_.budget(); }
  /// For tests: see Core.
  void check_invariants() const { core_.check_invariants(); }
  const PageLayout& layout() const { return layout_; }
  PagerView& view() { return view_; }

 private:
  struct Held {
    Caller caller;
    std::exception_ptr failure;  // of a copy that brought one of its pages
    std::string name;            // if a profiler listens
    ProfilerSpan span;           // the acquire, then the step
  };
  struct BudgetChange {
    std::uint32_t frames = 0;
    CallerId caller{};
    enum class Phase : std::uint8_t { creating, giving_up, done } phase = Phase::creating;
    std::exception_ptr failure;
  };

  LeaseId start(LeaseId lease, const Caller& caller, const LeaseLabel& label);
  std::vector<CopyId> copies_of(LeaseId lease) const;
  void create_frames(std::span<const FrameIndex> frames, Outcome& outcome) const;
  void take_ended_copies();
  void take_passed_fences();
  void end_copy(const Copy& copy, const std::exception_ptr& failure);
  void continue_budget();
  void finish_budget(std::exception_ptr failure);
  void fence_the_unfenced();
  void drop(LeaseId lease, std::optional<FenceId> fence, std::optional<StampId> stamp);
  void fail(std::exception_ptr failure);
  void publish();
  bool idle() const;

  Device& device_;
  const BackingStore& store_;
  const PageLayout layout_;
  Core core_;
  std::vector<std::uint64_t> missing_;  // by page: bytes that are not on the host yet
  std::deque<Copy> in_flight_;
  std::deque<EndedCopy> ended_early_;                  // before what started them was reported
  std::unordered_map<std::uint32_t, CopyId> copy_of_;  // by page, while in flight
  std::map<LeaseId, Held> held_;
  std::set<LeaseId> unfenced_;  // of held_: ended, but their pages stay until there is a fence
  std::set<FenceId> fences_;
  std::set<FenceId> passed_early_;  // before the end of their lease was reported
  StreamReports reports_;
  std::optional<BudgetChange> change_;
  std::exception_ptr fatal_;
  bool lost_track_ = false;
  bool news_ = false;
  bool executing_ = false;
  std::uint64_t events_ = 0;   // what callers did
  std::uint64_t batches_ = 0;  // of work that was taken
  std::uint64_t done_ = 0;     // of these, carried out
  FenceId last_fence_{};
  CopyId last_copy_{};
  std::uint32_t peak_frames_ = 0;

  LeaseTimings timings_;
  PagerView view_;
  LinkStatistics published_link_;  // as the thread last saw them: callers do not ask the device
  MemoryStatistics published_memory_;
};

}  // namespace tensor_pager
