#include "pager/pager.hpp"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "profiler.hpp"
#include "publication.hpp"

namespace tensor_pager {

namespace {

PageLayout layout_for(const Device& device, const BackingStore& store,
                      const PagerOptions& options) {
  const Bytes granularity = device.info().page_granularity;
  const Bytes page =
      options.page == Bytes{0} ? default_page_size(store.size(), granularity) : options.page;
  if (page.count % granularity.count != 0) {
    throw Error("a page of " + std::to_string(page.count) + " bytes is not a multiple of " +
                std::to_string(granularity.count) + " bytes, the least that the " +
                device.info().kind + " device maps");
  }
  if (round_up(store.size(), page) / page > 0xffffffff) {
    throw Error("an image of " + std::to_string(store.size().count) +
                " bytes has too many pages of " + std::to_string(page.count) +
                " bytes; choose larger pages");
  }
  return {.image = store.size(), .page = page};
}

CoreOptions core_options(const PageLayout& layout, const PagerOptions& options) {
  // Never more frames than pages: what the arena has beyond the image stays with the caller.
  const std::uint64_t frames =
      std::min<std::uint64_t>(options.arena / layout.page, layout.page_count());
  return {.layout = layout,
          .frames = static_cast<std::uint32_t>(frames),
          .policy = options.policy,
          .pages_per_copy = pages_per_copy(layout.page),
          .unmap_on_evict = options.unmap_on_evict,
          .host_pages_ready = false};
}

}  // namespace

Bytes default_page_size(Bytes image, Bytes granularity) {
  Bytes page = granularity;
  while (page * 256 < image && page < MiB(16)) page = page * 2;
  return page;
}

std::uint32_t pages_per_copy(Bytes page) {
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(1, MiB(16) / page));
}

Bytes minimum_arena(const PageLayout& layout, const AccessPlan& plan) {
  return layout.page * PagePlan(layout, plan).largest_step();
}

/// The thread carries out the core's commands and reports what happened; callers talk to the core
/// under the mutex.
class Pager::Impl {
 public:
  Impl(std::unique_ptr<Device> device, std::shared_ptr<const BackingStore> store,
       const PagerOptions& options);
  ~Impl();

  void set_plan(const AccessPlan& plan);
  LeaseId acquire_step(StepIndex step, std::span<const ByteRange> chosen, StreamRef stream);
  LeaseId acquire_ranges(std::span<const ByteRange> ranges, StreamRef stream);
  void release(LeaseId lease, StreamRef stream) noexcept;
  void set_arena(Bytes arena);
  void evict_all();
  void settle();
  Statistics statistics() const;
  Bytes minimum_arena() const;

  const PageLayout& layout() const { return layout_; }
  Device& device() { return *device_; }

 private:
  using Lock = std::unique_lock<std::mutex>;
  using Ask = std::function<LeaseId(StreamId)>;

  struct Copy {
    CopyId id{};
    PageRun pages;
    ProfilerSpan span;
  };
  /// What a lease is called where it is shown.
  struct Label {
    std::string name;
    std::optional<Trace::PlanPosition> position{};
  };
  /// When a lease's stream asked for its pages, had them, and was done with them. Only what had to
  /// wait, or is traced, has stamps.
  struct Timing {
    Label label;
    bool late = false;
    std::uint32_t stream = 0;
    std::vector<std::uint64_t> copies{};  // that brought in what it reads, if there is a trace
    std::optional<StampId> asked{};
    std::optional<StampId> granted{};
    std::optional<StampId> ended{};
  };

  Statistics statistics(const LinkStatistics& link, const MemoryStatistics& memory) const;
  void publish_all();
  void publish();
  void publish_changes(const Commands& commands);
  LeaseId acquire(const Ask& ask, const Label& label, StreamRef stream);
  LeaseId try_acquire(const Ask& ask, const Label& label, StreamRef stream);
  void run();
  void observe_copies();
  void observe_fences();
  void carry_out(const Commands& commands, Lock& lock);
  void carry_out(std::span<const Remap> remaps);
  void carry_out(const Remap& remap);
  Copy start_copy(PageRun pages);
  void wake_thread();
  void note_ready(ByteRange range);
  void throw_pending();
  void wait_until_queued(LeaseId lease, Lock& lock);
  std::vector<CopyId> awaited_copies(LeaseId lease) const;
  bool queued(LeaseId lease) const;
  [[noreturn]] void abandon(LeaseId lease, std::exception_ptr reason);
  std::exception_ptr failure_of(LeaseId lease) const;
  void observe_timings() noexcept;
  bool observe_timing(const Timing& timing);
  Label label_of(StepIndex step) const;
  void trace_changes(std::span<const PageIndex> evicted);
  std::vector<std::uint64_t> take_copies_for(LeaseId lease);

  const PageLayout layout_;
  const std::shared_ptr<const BackingStore> store_;
  const std::unique_ptr<Device> device_;
  Trace* const trace_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;     // the thread has something to do
  std::condition_variable changed_;  // callers that wait may look again
  bool progress_ = false;
  bool stop_ = false;
  bool executing_ = false;
  Core core_;
  std::vector<std::uint64_t> missing_;  // by page: bytes that are not on the host yet
  std::deque<Copy> in_flight_;
  std::unordered_map<std::uint32_t, CopyId> copy_of_;  // by page, while in flight
  std::unordered_map<std::uint32_t, std::exception_ptr>
      failures_;  // by page: why its last copy failed
  std::vector<FenceId> fences_;
  std::map<LeaseId, Timing> timings_;  // of leases that are held
  std::deque<Timing> ended_timings_;   // of leases that have ended, while their streams go on
  std::vector<std::string> step_names_;
  std::uint32_t plans_ = 0;                    // that were set so far
  std::vector<PageRun> arrived_pages_;         // that the trace does not know of yet
  std::map<StreamId, std::uint32_t> streams_;  // in the order in which a trace saw them
  std::unordered_map<std::uint32_t, CopyId>
      brought_in_;                         // by page, until its first use; for a trace
  std::map<LeaseId, ProfilerSpan> steps_;  // of leases that are held, if a profiler listens
  std::exception_ptr pending_;             // a failure that no caller was told of
  std::exception_ptr fatal_;               // the device cannot go on
  std::chrono::nanoseconds stalled_{};
  std::uint32_t peak_frames_ = 0;
  std::optional<Publication> publication_;
  LinkStatistics published_link_;  // as the thread last saw them: callers do not ask the device
  MemoryStatistics published_memory_;
  StepIndex step_;  // of the plan: acquired last

  std::thread thread_;
};

Pager::Impl::Impl(std::unique_ptr<Device> device, std::shared_ptr<const BackingStore> store,
                  const PagerOptions& options)
    : layout_(layout_for(*device, *store, options)),
      store_(std::move(store)),
      device_(std::move(device)),
      trace_(options.trace),
      core_(core_options(layout_, options)) {
  if (options.publish) {
    const DeviceInfo info = device_->info();
    publication_.emplace(layout_, options.title, info.kind, info.name, options.names);
  }
  device_->reserve(layout_);
  carry_out(core_.take_commands().remaps);
  peak_frames_ = core_.frames();
  if (trace_ != nullptr) {
    trace_->describe(core_options(layout_, options), options.names);
    trace_->frames(Trace::Clock::now(), core_.frames());
  }
  for (std::uint32_t page = 0; page < layout_.page_count(); ++page) {
    missing_.push_back(layout_.bytes_of({page}).size.count);
  }
  publish_all();
  device_->on_progress([this] { wake_thread(); });
  store_->announce([this](ByteRange range) { note_ready(range); });
  thread_ = std::thread([this] { run(); });
}

Pager::Impl::~Impl() {
  device_->on_progress({});
  store_->announce({});
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Pager::Impl::wake_thread() {
  {
    const std::lock_guard lock(mutex_);
    progress_ = true;
  }
  wake_.notify_all();
}

void Pager::Impl::note_ready(ByteRange range) {
  const std::lock_guard lock(mutex_);
  for (const PageIndex page : pages_of(layout_, {&range, 1})) {
    const ByteRange bytes = layout_.bytes_of(page);
    const Bytes overlap = std::min(bytes.end(), range.end()) - std::max(bytes.offset, range.offset);
    missing_[page.value] -= overlap.count;
    if (missing_[page.value] == 0) core_.host_page_ready(page);
  }
  progress_ = true;
  wake_.notify_all();
}

void Pager::Impl::run() {
  Lock lock(mutex_);
  while (!stop_) {
    progress_ = false;
    observe_copies();
    observe_fences();
    observe_timings();
    if (core_.has_commands() && !fatal_) {
      const Commands commands = core_.take_commands();
      if (trace_ != nullptr) trace_changes(commands.evicted);
      carry_out(commands, lock);
      continue;
    }
    if (trace_ != nullptr) trace_changes({});
    publish_all();
    changed_.notify_all();
    wake_.wait(lock, [&] { return stop_ || progress_ || (core_.has_commands() && !fatal_); });
  }
}

void Pager::Impl::observe_copies() {
  while (!in_flight_.empty()) {
    std::exception_ptr failure;
    try {
      if (!device_->finished(in_flight_.front().id)) return;
    } catch (...) {
      failure = std::current_exception();
    }
    const Copy copy = std::move(in_flight_.front());
    in_flight_.pop_front();
    for (std::uint32_t k = 0; k < copy.pages.count; ++k) {
      const PageIndex page{copy.pages.first.value + k};
      copy_of_.erase(page.value);
      if (failure) {
        failures_[page.value] = failure;
        core_.copy_failed(page, "a copy failed");
      } else {
        core_.copy_finished(page);
      }
      if (publication_) publication_->set(page, failure ? PageState::absent : PageState::resident);
    }
    if (trace_ != nullptr && !failure) arrived_pages_.push_back(copy.pages);
  }
}

/// Once the core's evictions are known, the changes so far make up what it calls resident.
void Pager::Impl::trace_changes(std::span<const PageIndex> evicted) {
  if (arrived_pages_.empty() && evicted.empty()) return;
  const Trace::Time now = Trace::Clock::now();
  for (const PageRun& pages : arrived_pages_) trace_->arrived(now, pages);
  arrived_pages_.clear();
  trace_->evicted(now, evicted);
  trace_->resident(now, layout_.page * core_.resident_pages());
}

void Pager::Impl::observe_fences() {
  std::erase_if(fences_, [&](FenceId fence) {
    if (!device_->passed(fence)) return false;
    core_.fence_passed(fence);
    return true;
  });
}

void Pager::Impl::carry_out(const Commands& commands, Lock& lock) {
  peak_frames_ = std::max(peak_frames_, core_.frames());
  executing_ = true;
  publish_changes(commands);
  std::vector<Copy> started;
  std::exception_ptr failure;
  lock.unlock();
  try {
    const auto begin = Trace::Clock::now();
    carry_out(commands.remaps);
    if (trace_ != nullptr && !commands.remaps.empty()) {
      trace_->add({.track = Trace::Track::pager,
                   .begin = begin,
                   .end = Trace::Clock::now(),
                   .name = "map and unmap",
                   .detail = std::to_string(commands.remaps.size()) + " pages or frames"});
    }
    for (const PageRun& run : commands.copies) started.push_back(start_copy(run));
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  executing_ = false;
  for (Copy& copy : started) {
    for (std::uint32_t k = 0; k < copy.pages.count; ++k) {
      copy_of_[copy.pages.first.value + k] = copy.id;
      if (trace_ != nullptr) brought_in_[copy.pages.first.value + k] = copy.id;
    }
    in_flight_.push_back(std::move(copy));
  }
  if (failure) fatal_ = failure;
  changed_.notify_all();
}

namespace {

/// How many of `remaps`, from the first on, are Kind and of neighbouring pages.
template <class Kind>
std::size_t run_of(std::span<const Remap> remaps) {
  std::size_t count = 0;
  const auto* const first = std::get_if<Kind>(&remaps.front());
  for (const Remap& remap : remaps) {
    const auto* const next = std::get_if<Kind>(&remap);
    if (next == nullptr || next->page.value != first->page.value + count) break;
    ++count;
  }
  return count;
}

}  // namespace

/// Neighbouring pages that are mapped or unmapped one after another are so together.
void Pager::Impl::carry_out(std::span<const Remap> remaps) {
  while (!remaps.empty()) {
    const std::size_t mapped = run_of<MapPage>(remaps);
    const std::size_t unmapped = run_of<UnmapPage>(remaps);
    if (mapped > 0) {
      std::vector<FrameIndex> frames;
      for (const Remap& remap : remaps.first(mapped)) {
        frames.push_back(std::get<MapPage>(remap).frame);
      }
      device_->map_run(std::get<MapPage>(remaps.front()).page, frames);
    } else if (unmapped > 0) {
      device_->unmap_run(std::get<UnmapPage>(remaps.front()).page,
                         static_cast<std::uint32_t>(unmapped));
    } else {
      carry_out(remaps.front());
    }
    remaps = remaps.subspan(std::max<std::size_t>(mapped + unmapped, 1));
  }
}

void Pager::Impl::carry_out(const Remap& remap) {
  if (const auto* create = std::get_if<CreateFrame>(&remap)) device_->create_frame(create->frame);
  if (const auto* destroy = std::get_if<DestroyFrame>(&remap))
    device_->destroy_frame(destroy->frame);
}

/// Other processes see the commands as carried out a little early.
void Pager::Impl::publish_changes(const Commands& commands) {
  if (!publication_) return;
  for (const PageIndex page : commands.evicted) publication_->set(page, PageState::absent);
  for (const PageRun& run : commands.copies) {
    for (std::uint32_t k = 0; k < run.count; ++k) publication_->loading({run.first.value + k});
  }
}

/// With what only the device knows, which takes its lock: not for callers on their way to a kernel.
void Pager::Impl::publish_all() {
  if (!publication_) return;
  published_link_ = device_->link();
  published_memory_ = device_->memory();
  publish();
}

void Pager::Impl::publish() {
  if (!publication_) return;
  publication_->publish({.statistics = statistics(published_link_, published_memory_),
                         .step = step_.value,
                         .steps = static_cast<std::uint32_t>(step_names_.size())});
}

Pager::Impl::Copy Pager::Impl::start_copy(PageRun pages) {
  Copy copy{.id = {}, .pages = pages, .span = {}};
  if (ProfilerSpan::wanted()) {
    const std::uint32_t last = pages.first.value + pages.count - 1;
    copy.span = ProfilerSpan("copy of pages " + std::to_string(pages.first.value) + " to " +
                             std::to_string(last));
  }
  copy.id = device_->copy(*store_, pages);
  return copy;
}

void Pager::Impl::set_plan(const AccessPlan& plan) {
  const std::lock_guard lock(mutex_);
  throw_pending();
  core_.set_plan(plan);
  step_names_.clear();
  for (const PlanStep& step : plan.steps) step_names_.push_back(step.name);
  ++plans_;
  if (trace_ != nullptr) trace_->plan_set(Trace::Clock::now(), plan);
  wake_.notify_all();
}

LeaseId Pager::Impl::acquire_step(StepIndex step, std::span<const ByteRange> chosen,
                                  StreamRef stream) {
  const bool named = trace_ != nullptr || ProfilerSpan::wanted();
  const Label label = named ? label_of(step) : Label{};
  return acquire(
      [&](StreamId id) {
        step_ = step;
        return core_.acquire(step, chosen, id);
      },
      label, stream);
}

LeaseId Pager::Impl::acquire_ranges(std::span<const ByteRange> ranges, StreamRef stream) {
  return acquire([&](StreamId id) { return core_.acquire(ranges, id); }, {.name = "ranges"},
                 stream);
}

/// A failed copy is tried once more: it may have failed for the sake of a neighbouring page that
/// was copied along.
LeaseId Pager::Impl::acquire(const Ask& ask, const Label& label, StreamRef stream) {
  {
    const std::lock_guard lock(mutex_);
    throw_pending();
  }
  try {
    return try_acquire(ask, label, stream);
  } catch (const StoreError&) {
    return try_acquire(ask, label, stream);
  }
}

Pager::Impl::Label Pager::Impl::label_of(StepIndex step) const {
  const std::lock_guard lock(mutex_);
  const bool named = step.value < step_names_.size() && !step_names_[step.value].empty();
  Label label{.name = named ? step_names_[step.value] : "step " + std::to_string(step.value)};
  if (plans_ > 0) label.position = {.plan = plans_ - 1, .step = step};
  return label;
}

LeaseId Pager::Impl::try_acquire(const Ask& ask, const Label& label, StreamRef stream) {
  // Callers that share the null stream of the host are different queues if they are different
  // threads.
  const StreamId queue{stream.handle != nullptr
                           ? reinterpret_cast<std::uintptr_t>(stream.handle)
                           : std::hash<std::thread::id>{}(std::this_thread::get_id())};
  const bool profiled = ProfilerSpan::wanted();
  const ProfilerSpan span = profiled ? ProfilerSpan("acquire " + label.name) : ProfilerSpan();
  Lock lock(mutex_);
  if (fatal_) std::rethrow_exception(fatal_);
  const LeaseId lease = ask(queue);
  publish();
  if (core_.has_commands()) wake_.notify_all();
  const bool late = core_.state(lease) != LeaseState::ready;
  if (late || trace_ != nullptr) {
    const auto number = static_cast<std::uint32_t>(streams_.size());
    timings_[lease] = {.label = label,
                       .late = late,
                       .stream = streams_.emplace(queue, number).first->second,
                       .asked = device_->stamp(stream)};
  }
  wait_until_queued(lease, lock);
  const std::vector<CopyId> copies = awaited_copies(lease);
  if (trace_ != nullptr) timings_.at(lease).copies = take_copies_for(lease);
  lock.unlock();

  // Queued: from here on the stream waits, and the thread only if it is the stream.
  std::exception_ptr failure;
  if (!copies.empty()) device_->wait(stream, copies.back());
  for (const CopyId copy : copies) {
    try {
      device_->finished(copy);
    } catch (...) {
      failure = std::current_exception();
    }
  }
  if (!failure && !late && trace_ == nullptr && !profiled) return lease;
  lock.lock();
  if (failure) {
    observe_copies();  // the core must know, too, before the caller tries again
    abandon(lease, failure);
  }
  if (late || trace_ != nullptr) timings_.at(lease).granted = device_->stamp(stream);
  if (profiled) steps_[lease] = ProfilerSpan(label.name);
  return lease;
}

/// Each page's copy belongs to the first lease that reads it.
std::vector<std::uint64_t> Pager::Impl::take_copies_for(LeaseId lease) {
  std::vector<std::uint64_t> copies;
  for (const PageIndex page : core_.pages(lease)) {
    const auto node = brought_in_.extract(page.value);
    if (!node.empty()) copies.push_back(static_cast<std::uint64_t>(node.mapped()));
  }
  std::ranges::sort(copies);
  copies.erase(std::unique(copies.begin(), copies.end()), copies.end());
  return copies;
}

void Pager::Impl::wait_until_queued(LeaseId lease, Lock& lock) {
  changed_.wait(
      lock, [&] { return fatal_ || core_.state(lease) == LeaseState::failed || queued(lease); });
  if (fatal_) abandon(lease, fatal_);
  if (core_.state(lease) == LeaseState::failed) abandon(lease, failure_of(lease));
}

/// Whether every copy that the lease needs has a place in the device's queue.
bool Pager::Impl::queued(LeaseId lease) const {
  const LeaseState state = core_.state(lease);
  if (state == LeaseState::ready) return true;
  if (state != LeaseState::loading) return false;
  const auto pages = core_.pages(lease);
  return std::all_of(pages.begin(), pages.end(), [&](PageIndex page) {
    return copy_of_.contains(page.value) || core_.resident(page);
  });
}

/// The copies that the lease's stream has to wait for, oldest first. Copies end in order: the last
/// one says it all.
std::vector<CopyId> Pager::Impl::awaited_copies(LeaseId lease) const {
  std::vector<CopyId> copies;
  for (const PageIndex page : core_.pages(lease)) {
    const auto copy = copy_of_.find(page.value);
    if (copy != copy_of_.end()) copies.push_back(copy->second);
  }
  std::sort(copies.begin(), copies.end());
  copies.erase(std::unique(copies.begin(), copies.end()), copies.end());
  return copies;
}

std::exception_ptr Pager::Impl::failure_of(LeaseId lease) const {
  const auto pages = core_.pages(lease);
  for (const PageIndex page : pages) {
    const auto failure = failures_.find(page.value);
    if (failure != failures_.end()) return failure->second;
  }
  const Bytes minimum = layout_.page * (core_.pinned_pages() + pages.size());
  return std::make_exception_ptr(BudgetError(core_.failure(lease), minimum));
}

void Pager::Impl::abandon(LeaseId lease, std::exception_ptr reason) {
  if (auto timing = timings_.extract(lease); !timing.empty()) {
    ended_timings_.push_back(std::move(timing.mapped()));
  }
  core_.release(lease, std::nullopt);
  if (core_.has_commands()) wake_.notify_all();
  std::rethrow_exception(std::move(reason));
}

void Pager::Impl::throw_pending() {
  if (fatal_) std::rethrow_exception(fatal_);
  if (pending_) std::rethrow_exception(std::exchange(pending_, nullptr));
}

/// Reads the stamps of ended leases whose streams have passed them. A stall is the time for which
/// the stream had nothing to do but wait.
void Pager::Impl::observe_timings() noexcept {
  try {
    while (!ended_timings_.empty() && observe_timing(ended_timings_.front())) {
      ended_timings_.pop_front();
    }
  } catch (...) {
    ended_timings_.clear();  // the GPU has failed, which its streams report; times matter no more
  }
}

/// False while the stream has not passed the timing's last stamp.
bool Pager::Impl::observe_timing(const Timing& timing) {
  // The last one first: when the stream has passed it, it has passed the others.
  const std::array stamps = {timing.ended, timing.granted, timing.asked};
  std::array<std::optional<Trace::Time>, 3> times;
  for (std::size_t i = 0; i < stamps.size(); ++i) {
    if (!stamps[i]) continue;
    times[i] = device_->take_stamp(*stamps[i]);
    if (!times[i]) return false;
  }
  const auto& [ended, granted, asked] = times;
  if (timing.late && granted) {
    stalled_ += *granted - *asked;
    if (trace_ != nullptr) {
      trace_->add({.track = Trace::Track::stalls,
                   .begin = *asked,
                   .end = *granted,
                   .name = timing.label.name,
                   .stream = timing.stream,
                   .position = timing.label.position});
    }
  }
  if (ended) {
    trace_->add({.track = Trace::Track::steps,
                 .begin = *granted,
                 .end = *ended,
                 .name = timing.label.name,
                 .stream = timing.stream,
                 .position = timing.label.position,
                 .copies = timing.copies});
  }
  return true;
}

void Pager::Impl::release(LeaseId lease, StreamRef stream) noexcept {
  std::optional<FenceId> fence;
  std::optional<StampId> ended;
  std::exception_ptr failure;
  try {
    if (trace_ != nullptr) ended = device_->stamp(stream);
    fence = device_->record(stream);
    if (device_->passed(*fence)) fence.reset();
  } catch (...) {
    failure = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  steps_.erase(lease);
  if (failure) fatal_ = failure;  // without the fence nobody knows when its pages may go
  if (core_.state(lease) == LeaseState::failed) pending_ = failure_of(lease);
  core_.release(lease, fence);
  if (fence) fences_.push_back(*fence);
  if (auto timing = timings_.extract(lease); !timing.empty()) {
    timing.mapped().ended = ended;
    ended_timings_.push_back(std::move(timing.mapped()));
    if (!fence) observe_timings();
  }
  if (core_.has_commands() || fence) {
    progress_ = true;
    wake_.notify_all();
  }
}

void Pager::Impl::set_arena(Bytes arena) {
  Lock lock(mutex_);
  throw_pending();
  const std::uint64_t frames = std::min<std::uint64_t>(arena / layout_.page, layout_.page_count());
  core_.set_budget(static_cast<std::uint32_t>(frames));
  // Frames are new from now on, and given up once they are free.
  const bool grows = core_.frames() < frames;
  if (trace_ != nullptr && grows) trace_->frames(Trace::Clock::now(), core_.budget());
  wake_.notify_all();
  changed_.wait(lock, [&] {
    return fatal_ || (core_.frames() == core_.budget() && !core_.has_commands() && !executing_);
  });
  if (trace_ != nullptr && !grows) trace_->frames(Trace::Clock::now(), core_.frames());
  if (fatal_) std::rethrow_exception(fatal_);
}

void Pager::Impl::evict_all() {
  Lock lock(mutex_);
  throw_pending();
  changed_.wait(lock, [&] {
    return fatal_ ||
           (fences_.empty() && in_flight_.empty() && !core_.has_commands() && !executing_);
  });
  core_.evict_all();
  wake_.notify_all();
}

void Pager::Impl::settle() {
  Lock lock(mutex_);
  changed_.wait(lock, [&] {
    return fatal_ ||
           (in_flight_.empty() && ended_timings_.empty() && !core_.has_commands() && !executing_);
  });
  publish_all();
}

Statistics Pager::Impl::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics(device_->link(), device_->memory());
}

Statistics Pager::Impl::statistics(const LinkStatistics& link,
                                   const MemoryStatistics& memory) const {
  return {.page = layout_.page,
          .arena = layout_.page * core_.budget(),
          .frames = core_.frames(),
          .peak_frames = peak_frames_,
          .pages = layout_.page_count(),
          .resident_pages = core_.resident_pages(),
          .core = core_.counters(),
          .link = link,
          .memory = memory,
          .stalled = stalled_};
}

Bytes Pager::Impl::minimum_arena() const {
  const std::lock_guard lock(mutex_);
  return layout_.page * core_.minimum_frames();
}

Pager::Pager(std::unique_ptr<Device> device, std::shared_ptr<const BackingStore> store,
             const PagerOptions& options)
    : impl_(std::make_unique<Impl>(std::move(device), std::move(store), options)) {}

Pager::~Pager() = default;

const std::byte* Pager::address(Bytes offset) const {
  return impl_->device().base() + offset.count;
}
void Pager::set_plan(const AccessPlan& plan) {
  impl_->set_plan(plan);
}

Lease Pager::acquire(StepIndex step, std::span<const ByteRange> chosen, StreamRef stream) {
  return {*this, impl_->acquire_step(step, chosen, stream), stream};
}

Lease Pager::acquire(std::span<const ByteRange> ranges, StreamRef stream) {
  return {*this, impl_->acquire_ranges(ranges, stream), stream};
}

void Pager::set_arena(Bytes arena) {
  impl_->set_arena(arena);
}
void Pager::evict_all() {
  impl_->evict_all();
}
void Pager::settle() {
  impl_->settle();
}

Bytes Pager::minimum_arena() const {
  return impl_->minimum_arena();
}
PageLayout Pager::layout() const {
  return impl_->layout();
}
Device& Pager::device() {
  return impl_->device();
}
Statistics Pager::statistics() const {
  return impl_->statistics();
}

Lease::Lease(Lease&& other) noexcept
    : pager_(std::exchange(other.pager_, nullptr)), id_(other.id_), stream_(other.stream_) {}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  release();
  pager_ = std::exchange(other.pager_, nullptr);
  id_ = other.id_;
  stream_ = other.stream_;
  return *this;
}

void Lease::release() noexcept {
  if (pager_ != nullptr) std::exchange(pager_, nullptr)->impl_->release(id_, stream_);
}

}  // namespace tensor_pager
