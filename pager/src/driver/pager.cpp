#include "pager/pager.hpp"

#include <algorithm>
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

#include "driver/remapping.hpp"
#include "views/lease_timings.hpp"
#include "views/pager_view.hpp"
#include "views/profiler.hpp"

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
  Statistics statistics(const LinkStatistics& link, const MemoryStatistics& memory) const;
  void publish_all();
  void publish();
  LeaseId acquire(const Ask& ask, const LeaseLabel& label, StreamRef stream);
  LeaseId try_acquire(const Ask& ask, const LeaseLabel& label, StreamRef stream);
  void await(std::span<const CopyId> copies, StreamRef stream);
  void run();
  void observe_copies();
  void observe_fences();
  void carry_out(const Commands& commands, Lock& lock);
  Copy start_copy(PageRun pages);
  void wake_thread();
  void note_ready(ByteRange range);
  void throw_pending();
  void wait_until_queued(LeaseId lease, Lock& lock);
  std::vector<CopyId> awaited_copies(LeaseId lease) const;
  bool queued(LeaseId lease) const;
  [[noreturn]] void abandon(LeaseId lease, std::exception_ptr reason);
  std::exception_ptr failure_of(LeaseId lease) const;
  LeaseLabel label_of(StepIndex step) const;

  const PageLayout layout_;
  const std::shared_ptr<const BackingStore> store_;
  const std::unique_ptr<Device> device_;

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
  std::exception_ptr pending_;  // a failure that no caller was told of
  std::exception_ptr fatal_;    // the device cannot go on
  std::uint32_t peak_frames_ = 0;

  LeaseTimings timings_;
  PagerView view_;
  std::map<LeaseId, ProfilerSpan> steps_;  // of leases that are held, if a profiler listens
  LinkStatistics published_link_;  // as the thread last saw them: callers do not ask the device
  MemoryStatistics published_memory_;

  std::thread thread_;
};

Pager::Impl::Impl(std::unique_ptr<Device> device, std::shared_ptr<const BackingStore> store,
                  const PagerOptions& options)
    : layout_(layout_for(*device, *store, options)),
      store_(std::move(store)),
      device_(std::move(device)),
      core_(core_options(layout_, options)),
      timings_(*device_, options.trace),
      view_(options, core_options(layout_, options), device_->info()) {
  device_->reserve(layout_);
  remap(*device_, core_.take_commands().remaps);
  peak_frames_ = core_.frames();
  view_.frames(core_.frames());
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
    timings_.observe();
    if (core_.has_commands() && !fatal_) {
      const Commands commands = core_.take_commands();
      view_.commanded(commands, core_.resident_pages());
      carry_out(commands, lock);
      continue;
    }
    view_.unchanged(core_.resident_pages());
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
    }
    view_.copy_ended(copy.pages, !failure);
  }
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
  std::vector<Copy> started;
  std::exception_ptr failure;
  lock.unlock();
  try {
    const Trace::Time begin = Trace::Clock::now();
    remap(*device_, commands.remaps);
    view_.remapped(begin, commands.remaps.size());
    for (const PageRun& run : commands.copies) started.push_back(start_copy(run));
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  executing_ = false;
  for (Copy& copy : started) {
    for (std::uint32_t k = 0; k < copy.pages.count; ++k) {
      copy_of_[copy.pages.first.value + k] = copy.id;
    }
    view_.copy_started(copy.id, copy.pages);
    in_flight_.push_back(std::move(copy));
  }
  if (failure) fatal_ = failure;
  changed_.notify_all();
}

/// With what only the device knows, which takes its lock: not for callers on their way to a kernel.
void Pager::Impl::publish_all() {
  if (!view_.published()) return;
  published_link_ = device_->link();
  published_memory_ = device_->memory();
  publish();
}

void Pager::Impl::publish() {
  if (view_.published()) view_.publish(statistics(published_link_, published_memory_));
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
  view_.plan_set(plan);
  wake_.notify_all();
}

LeaseId Pager::Impl::acquire_step(StepIndex step, std::span<const ByteRange> chosen,
                                  StreamRef stream) {
  const bool named = view_.traced() || ProfilerSpan::wanted();
  const LeaseLabel label = named ? label_of(step) : LeaseLabel{};
  return acquire(
      [&](StreamId id) {
        view_.reached(step);
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
LeaseId Pager::Impl::acquire(const Ask& ask, const LeaseLabel& label, StreamRef stream) {
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

LeaseLabel Pager::Impl::label_of(StepIndex step) const {
  const std::lock_guard lock(mutex_);
  return view_.label(step);
}

LeaseId Pager::Impl::try_acquire(const Ask& ask, const LeaseLabel& label, StreamRef stream) {
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
  if (!late && !view_.traced() && !profiled) return lease;
  timings_.asked(lease, label, queue, stream, late);
  wait_until_queued(lease, lock);
  const std::vector<CopyId> copies = awaited_copies(lease);
  if (view_.traced()) timings_.brought_in(lease, view_.take_copies(core_.pages(lease)));
  lock.unlock();

  std::exception_ptr failure;
  try {
    await(copies, stream);
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  if (failure) {
    observe_copies();  // the core must know, too, before the caller tries again
    abandon(lease, failure);
  }
  timings_.granted(lease, stream);
  if (profiled) steps_[lease] = ProfilerSpan(label.name);
  return lease;
}

/// From here on the stream waits, and the thread only if it is the stream. Throws what made a copy
/// fail that has ended by then.
void Pager::Impl::await(std::span<const CopyId> copies, StreamRef stream) {
  if (copies.empty()) return;
  device_->wait(stream, copies.back());
  for (const CopyId copy : copies) device_->finished(copy);
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
  timings_.ended(lease, std::nullopt);
  core_.release(lease, std::nullopt);
  if (core_.has_commands()) wake_.notify_all();
  std::rethrow_exception(std::move(reason));
}

void Pager::Impl::throw_pending() {
  if (fatal_) std::rethrow_exception(fatal_);
  if (pending_) std::rethrow_exception(std::exchange(pending_, nullptr));
}

void Pager::Impl::release(LeaseId lease, StreamRef stream) noexcept {
  std::optional<FenceId> fence;
  std::optional<StampId> ended;
  std::exception_ptr failure;
  try {
    ended = timings_.stamp_end(stream);
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
  timings_.ended(lease, ended);
  if (!fence) timings_.observe();
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
  if (grows) view_.frames(core_.budget());
  wake_.notify_all();
  changed_.wait(lock, [&] {
    return fatal_ || (core_.frames() == core_.budget() && !core_.has_commands() && !executing_);
  });
  if (!grows) view_.frames(core_.frames());
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
  changed_.wait(lock, [&] { return fatal_ || (!core_.has_commands() && !executing_); });
  if (fatal_) std::rethrow_exception(fatal_);
}

void Pager::Impl::settle() {
  Lock lock(mutex_);
  changed_.wait(lock, [&] {
    return fatal_ || (fences_.empty() && in_flight_.empty() && timings_.idle() &&
                      !core_.has_commands() && !executing_);
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
          .stalled = timings_.stalled()};
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
