// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/policy.hpp"
#include "pager/ids.hpp"
#include "pager/statistics.hpp"
#include "pager/types.hpp"

namespace tensor_pager {

struct CoreOptions {
  PageLayout layout{};
  std::uint32_t frames = 0;
  PolicyOptions policy{};
  /// Neighbouring pages are copied as one, up to this many.
  std::uint32_t pages_per_copy = 16;
  /// Unmap a page as soon as it is evicted, so that a stray read faults, instead of leaving its old
  /// mapping in place.
  bool unmap_on_evict = false;
  /// Whether every page's bytes are on the host already; otherwise host_page_ready announces them
  /// one by one.
  bool host_pages_ready = true;
};

/// Who acquires and releases: a thread, say. A caller that waits for a lease or for a smaller
/// budget releases nothing meanwhile, whatever streams its leases are read in.
enum class CallerId : std::uint64_t {};

/// What the core wants done to the device, to be carried out in order. Work reads neither
/// through the address of a page that a command maps or unmaps, nor from a frame that it destroys
/// or that a copy writes: the core waits for the fences of the former page. Several pages may be
/// mapped to one frame, also while work reads it as another page. Frames are created by whoever
/// drives the core, before it is told of them.
struct DestroyFrame {
  FrameIndex frame;
};
struct MapPage {
  PageIndex page;
  FrameIndex frame;  ///< replaces the page's former mapping, if there is one
};
struct UnmapPage {
  PageIndex page;
};
using Remap = std::variant<DestroyFrame, MapPage, UnmapPage>;

/// First all remaps, then all copies (from the store into the frames that the pages are mapped to).
struct Commands {
  std::vector<Remap> remaps;
  std::vector<PageRun> copies;
  /// Pages that are not resident any more: news, nothing to be done.
  std::vector<PageIndex> evicted;

  bool empty() const { return remaps.empty() && copies.empty() && evicted.empty(); }
};

/// How far a lease has come.
enum class LeaseState : std::uint8_t {
  blocked,  ///< the pages that other leases hold leave too few frames; tried again at each release
  queued,   ///< some copy that the lease needs was not commanded yet
  loading,  ///< every copy was commanded; some have not finished
  ready,    ///< every page is resident
  failed,   ///< a copy failed, or waiting would be forever; the lease can only be released
};

/// How far the last change of the budget has come.
enum class BudgetState : std::uint8_t {
  done,     ///< as many frames exist as the budget says
  waiting,  ///< frames that are to be given up are still held or read
  failed,   ///< waiting would be forever: the budget is what exists again
};

/// The deterministic heart of the pager: a state machine over page table, policy and plan, without
/// threads, clock, device or I/O. It is told what happened and answers with commands
/// (take_commands).
///
/// Decisions depend on the plan and on the order of acquires and releases, never on when copies
/// finish or fences pass: time decides only when a decision is carried out. Equal runs copy equal
/// pages in equal order.
///
/// Logically, `budget - prefetch depth` frames keep pages, chosen by ReplacementPolicy at the
/// position where each page is used. A page that the policy gives up goes to limbo, a queue as long
/// as the prefetch depth. A page that is brought in takes the frame that has been in limbo longest,
/// and its load waits until the work that read the frame has passed. So loads run ahead of their
/// use by the depth of the limbo, and the pages copied are those that Belady's rule copies with
/// `budget - depth` frames, less those that are rescued from limbo.
///
/// Where it copies no more than that, `budget - depth` pages spread over the pass are kept instead
/// (ReplacementPolicy), so that misses do not lie together. As many frames of the depth as the
/// largest step has then hold the streamed pages in use, and the limbo has the rest.
///
/// Where a pass can repeat so - kept pages are spread, or all that is read fits - every page of the
/// plan has a *home*: a kept page a frame of its own, a streamed page a slot in a ring of the other
/// frames, the same in every pass, so that several addresses point to one frame and a pass that
/// repeats maps nothing. A page that comes in displaces what is in its home; there is no limbo, and
/// what is planned ahead waits for the steps that need what it would displace. A page from outside
/// the plan is a guest in a home, and leaves it to the owner unless it is used more often than once
/// in a pass.
///
/// One stay of a page in a frame is a Residency:
///
///   planned -> loading -> resident -> (gone)
///      |          `-----> failed ---> (gone)
///      `-> (gone)                                       if the decision is undone before its copy
///      was commanded
///
/// What is acquired outside the plan leaves the decisions ahead as they are: pages that are there
/// are held, others take the first frame that no lease holds and no planned step needs, and their
/// loads go before those that were decided ahead. Only where there is no such frame are decisions
/// undone. A page earns its place by how often it is used (ReplacementPolicy).
///
/// Callers that each walk the plan make no single order of steps. As soon as a caller goes on in
/// its own walk with a step that is not the next of the plan's, because another caller came
/// between, the plan has *several walkers*: nothing is planned ahead, steps are acquired like pages
/// outside the plan, and the page that the nearest caller is farthest from leaves. optimal_loads
/// counts what that rule copies, since nobody knows the order that Belady's rule would need. It
/// ends with the next plan, or when one caller has acquired a whole pass, in order, with no other
/// between. Callers that take turns at the steps of one pass are one walk; one caller that skips
/// steps is a walk, too, that goes on there.
///
/// A residency ends only when it is drained: no step that was planned with it is still to come
/// (promised), no lease holds it (pins) and the work that read it has passed (fences). Loads are
/// commanded strictly in order, and a page comes in only after every load that takes it out, so it
/// is never in two frames.
///
/// Not thread-safe.
class Core {
 public:
  /// Frames 0 to `options.frames - 1` exist. Throws BudgetError if there is not a single one.
  explicit Core(const CoreOptions& options);
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  /// Replaces the plan; the next step is its first. Throws BudgetError, and changes nothing, if the
  /// largest step does not fit.
  void set_plan(const AccessPlan& plan);

  /// Reaches step `step` of the plan and acquires its pages and those of `chosen`. Steps that are
  /// skipped are forgotten. Throws BudgetError if the step alone does not fit the arena.
  LeaseId acquire(StepIndex step, std::span<const ByteRange> chosen, CallerId caller);
  /// Acquires pages outside the plan.
  LeaseId acquire(std::span<const ByteRange> ranges, CallerId caller);
  /// A hint that pages are acquired within the next pass, outside the plan. They are brought in
  /// where frames are free or hold pages that are worth less; no decision is undone and nobody
  /// waits.
  void prefetch(std::span<const ByteRange> ranges);
  /// The lease ends; the work that it covered has been queued, and `fence` passes after it. Without
  /// a fence the pages are not being read any more.
  void release(LeaseId lease, std::optional<FenceId> fence);

  void fence_passed(FenceId fence);
  void copy_finished(PageIndex page);
  /// Leases that need the page fail with `reason`; its frame is used again.
  void copy_failed(PageIndex page, const std::string& reason);
  void host_page_ready(PageIndex page);

  /// The frames that must exist before set_budget(budget) may be called, once all commands up to
  /// now were carried out and if nothing else happens in between.
  std::vector<FrameIndex> frames_to_create(std::uint32_t budget) const;
  /// Adds frames, at once, or gives them up, which takes until leases that hold them have ended and
  /// the work that reads them has passed; `caller` waits until budget_state() says how it ended. If
  /// leases of the caller itself hold more than `frames`, or all who hold frames wait, too, it
  /// fails: the budget is then again what exists, which is the former one less the frames that were
  /// given up already. A further call takes the place of one that waits. Throws BudgetError, and
  /// changes nothing, if the plan's largest step would not fit.
  void set_budget(std::uint32_t frames, CallerId caller);
  BudgetState budget_state() const;
  /// Why the change of the budget failed.
  const std::string& budget_failure() const { return budget_failure_; }

  /// Forgets every resident page that nobody reads, as if it had never been brought in; addresses
  /// stay mapped, except with unmap_on_evict.
  /// Nothing is brought in ahead of the next acquire, or the next plan.
  void evict_all();

  Commands take_commands();
  bool has_commands() const { return !commands_.empty(); }

  LeaseState state(LeaseId lease) const;
  /// Why the lease failed.
  const std::string& failure(LeaseId lease) const;
  std::span<const PageIndex> pages(LeaseId lease) const;
  bool resident(PageIndex page) const;

  std::uint32_t frames() const { return alive_; }
  std::uint32_t budget() const { return budget_; }
  /// Frames that the plan's largest step takes: the smallest budget.
  std::uint32_t minimum_frames() const { return plan_.largest_step(); }
  /// Frames that keep no page from one pass to the next: the prefetch depth.
  std::uint32_t prefetch_frames() const { return depth_of(spread_); }
  /// Whether kept pages are spread over the pass.
  bool spread() const { return spread_; }
  /// Whether a pass that repeats changes no mappings.
  bool homes() const { return homes_; }
  /// Whether several callers walk the plan, so that nothing is planned ahead.
  bool several_walkers() const { return several_walkers_; }
  std::uint32_t resident_pages() const { return resident_; }
  /// Pages that leases hold.
  std::uint32_t pinned_pages() const { return pinned_; }
  const CoreCounters& counters() const { return counters_; }

  /// Throws std::logic_error that names the first violated invariant. For tests: looks at
  /// everything.
  void check_invariants() const;

 private:
  using ResidencyId = std::uint32_t;
  static constexpr ResidencyId kNone = 0xffffffff;

  enum class ResidencyState : std::uint8_t { gone, planned, loading, resident, failed };

  struct Residency {
    PageIndex page;
    FrameIndex frame;
    ResidencyState state = ResidencyState::gone;
    bool in_limbo = false;
    bool fresh = true;    // brought in, not used since
    bool latest = false;  // one of its pins is that of the plan step acquired last
    std::uint32_t promised = 0;
    std::uint32_t pins = 0;
    std::uint32_t fences = 0;
    std::list<ResidencyId>::iterator limbo;  // valid while in_limbo
  };

  struct Page {
    ResidencyId residency = kNone;     // the newest whose frame was not promised to another page
    ResidencyId loading = kNone;       // whose copy was commanded and has not finished
    std::optional<FrameIndex> mapped;  // where its address points, perhaps since long ago
    std::optional<FrameIndex> home;    // where the plan wants it
    bool host_ready = true;
    bool suspect = false;  // its last copy failed: only an acquire tries again, and reports
  };

  struct Frame {
    ResidencyId holder = kNone;       // whose it is or will be; kNone if it is free
    bool home = false;                // of a page, or of several
    std::vector<PageIndex> mapped{};  // whose addresses point to it
  };

  struct Load {
    ResidencyId incoming = kNone;  // kNone: the frame is given up
    ResidencyId outgoing = kNone;  // kNone: the frame was free
    bool outside_plan = false;     // goes before those that are not
  };

  struct PlannedStep {
    Position position = 0;
    std::vector<ResidencyId> residencies;  // of the pages that were placed so far
    std::vector<PageIndex> absent;         // of these, [0, next) were placed
    std::size_t next = 0;
    std::uint32_t loads = 0;

    bool complete() const { return next == absent.size(); }
  };

  /// Whom a decision may take a frame from. What the caller acquires must not wait for a lease:
  /// pinned pages are kept. What is planned ahead may wait for the step acquired last, which will
  /// have been released by then, but not for leases that were held on to.
  enum class Urgency : std::uint8_t { demand, ahead };
  /// Whether a residency stays where it is.
  using Keep = std::function<bool(ResidencyId)>;

  struct Lease {
    CallerId caller{};
    std::vector<PageIndex> pages;
    std::vector<ResidencyId> residencies;  // empty while blocked
    bool outside_plan = false;             // leaves decisions ahead as they are
    bool blocked = true;                   // the pages were not found a place
    bool granted = false;  // every copy was commanded: the caller may already be reading
    bool counted = false;
    std::string failure;
  };

  bool follow_walk(StepIndex step, CallerId caller);
  void set_several_walkers(bool several);
  void place_walkers();
  LeaseId acquire_step(std::vector<PageIndex> pages, CallerId caller, bool as_planned);
  void forget_latest();
  LeaseId acquire_outside_plan(std::vector<PageIndex> pages, CallerId caller);
  LeaseId new_lease(std::vector<PageIndex> pages, CallerId caller);
  void count_optimal(Position position, std::span<const PageIndex> pages);
  void require_fits(std::size_t pages) const;
  bool fits(std::span<const PageIndex> pages) const;
  void seek(StepIndex step);
  void grant(Lease& lease, const PlannedStep& step);
  void hold(Lease& lease, Position position);
  void hold_outside_plan(Lease& lease);
  void pin(Lease& lease, ResidencyId residency);
  bool load_outside_plan(PageIndex page, Position sooner_than = 0);
  std::optional<Load> take_unneeded_frame(PageIndex page, Position sooner_than);
  bool leaving(PageIndex page) const;
  void count_accesses(Lease& lease);
  void drop_pins(Lease& lease);
  void retry_blocked();
  void fail_deadlocked();
  void fail_waiting_budget();
  bool waits(CallerId caller) const;
  std::uint32_t held_by(CallerId caller) const;
  void mark_granted();

  PlannedStep begin_step(Position position, std::span<const PageIndex> pages);
  void claim(PlannedStep& step, PageIndex page);
  void make_room(Urgency urgency);
  bool place_next_page(PlannedStep& step, Urgency urgency);
  void place_all_pages(PlannedStep& step);
  void plan_ahead();
  std::optional<Load> take_frame_in_limbo(Urgency urgency);
  std::optional<Load> take_frame_at_home(PageIndex page, Urgency urgency);
  std::optional<Load> take_frame(const Keep& keep);
  std::optional<Load> take_any_frame(PageIndex page, const Keep& keep);
  std::optional<Load> take_home(PageIndex page, const Keep& keep);
  Load take_free(FrameIndex frame);
  Load displace(ResidencyId outgoing);
  bool outweighs(const Residency& guest, const Keep& keep) const;
  bool give_up_victim(Urgency urgency);
  bool keeps(const Residency& residency, Urgency urgency) const;
  bool drained(const Residency& residency) const;

  void settle();
  void pump();
  void command(const Load& load);
  void command_load(ResidencyId id);
  bool relied_upon(ResidencyId id) const;
  void note_eviction(PageIndex page);
  void command_copy(PageIndex page);
  void unstick();
  void rollback();
  void cancel_loads();
  void rebuild_policy();
  void restart_optimal();
  void change_budget(std::uint32_t frames);
  void add_frames();
  void give_up_frames();
  void destroy_frame(FrameIndex frame);

  ResidencyId new_residency(PageIndex page, FrameIndex frame);
  void free_residency(ResidencyId id);
  void enter_limbo(ResidencyId id, bool first);
  void leave_limbo(ResidencyId id);
  void forget(ResidencyId id);
  void unmap_unread();
  void map(PageIndex page, FrameIndex frame);
  void unmap(PageIndex page);
  void forget_mapping(PageIndex page);
  void choose_placement();
  bool spreads(std::uint32_t kept) const;
  bool keeps_nothing(std::uint32_t frames) const;
  bool ring_serves(std::uint32_t kept, std::uint32_t ahead);
  bool ring_copies_once() const;
  void choose_homes();
  void map_homes();
  std::vector<bool> pages_in_frames() const;
  std::uint32_t depth_of(bool spread) const;
  std::uint32_t lookahead() const {
    return prefetch_frames() - (spread_ ? plan_.largest_step() : 0);
  }
  std::uint32_t limbo_frames() const { return homes_ ? 0 : lookahead(); }
  std::uint32_t capacity() const { return budget_ - limbo_frames(); }

  CoreOptions options_;
  PagePlan plan_;
  ReplacementPolicy policy_;
  OptimalLoads optimal_;
  Position last_position() const { return position_ == 0 ? 0 : position_ - 1; }
  std::uint32_t window() const { return several_walkers_ ? 0 : options_.policy.window; }

  Position position_ = 0;  // of the next step
  Position frontier_ = 0;  // of the next step to be planned

  std::vector<Page> pages_;
  std::vector<Residency> residencies_;
  std::vector<ResidencyId> unused_residencies_;

  struct Walk {
    StepIndex step;          // acquired last
    std::uint64_t turn = 0;  // when, in steps that all callers acquired
  };
  std::map<CallerId, Walk> walks_;
  std::uint64_t turns_ = 0;
  std::optional<CallerId> walker_;  // who acquired the last step,
  std::uint32_t walked_ = 0;        // and how many in order, with no other between
  bool several_walkers_ = false;

  std::uint32_t budget_ = 0;
  CallerId budget_caller_{};  // waits while the budget does
  std::string budget_failure_;
  bool spread_ = false;
  bool homes_ = false;                        // every page of the plan has a home
  bool homes_stale_ = true;                   // plan or frames changed since they were chosen
  std::vector<PageIndex> kept_pages_;         // with a home of their own
  std::vector<std::vector<PageIndex>> ring_;  // by slot: the pages that share a home
  bool resting_ = false;                      // nothing is planned ahead until the next acquire
  std::uint32_t alive_ = 0;                   // frames that exist
  std::uint32_t retiring_ = 0;                // of these, frames about to be given up
  std::uint32_t pinned_ = 0;                  // residencies with pins
  std::uint32_t resident_ = 0;                // residencies that are resident
  std::set<FrameIndex> free_frames_;
  std::vector<Frame> frames_;            // by index
  std::vector<FrameIndex> dead_frames_;  // indices to use again
  std::list<ResidencyId> limbo_;

  std::deque<Load> loads_;
  std::deque<PlannedStep>
      planned_;  // steps from position_ to frontier_; only the last may be incomplete
  std::uint32_t planned_loads_ = 0;  // of planned_, together
  std::vector<ResidencyId> latest_;  // of the plan step acquired last, until it is released
  LeaseId latest_lease_{};
  std::map<LeaseId, Lease> leases_;
  std::map<FenceId, std::vector<ResidencyId>> fences_;
  std::uint64_t next_lease_ = 1;

  Commands commands_;
  CoreCounters counters_;
};

}  // namespace tensor_pager
