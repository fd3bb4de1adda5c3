// SPDX-License-Identifier: Apache-2.0
#include "pager/pager.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "birthplace.hpp"
#include "driver/driver.hpp"

namespace tensor_pager {

namespace {

/// How often is looked again where nobody may say that something has changed: at the end of a
/// pager, and at streams that are being captured.
constexpr std::chrono::milliseconds kLastLook{5};

Device& required(const std::unique_ptr<Device>& device) {
  if (!device) throw Error("a pager needs a device: make_host_device() or make_cuda_device()");
  return *device;
}

const BackingStore& required(const std::shared_ptr<const BackingStore>& store) {
  if (!store) throw Error("a pager needs a store: a MemoryStore or a MappedFileStore, say");
  return *store;
}

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

/// Never more frames than pages: what the arena has beyond the image stays with the caller.
std::uint32_t frames_of(const PageLayout& layout, Bytes arena) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(arena / layout.page, layout.page_count()));
}

CoreOptions core_options(const PageLayout& layout, const PagerOptions& options) {
  return {.layout = layout,
          .frames = frames_of(layout, options.arena),
          .policy = options.policy,
          .pages_per_copy = pages_per_copy(layout.page),
          .unmap_on_evict = options.unmap_on_evict,
          .host_pages_ready = false};
}

/// No two threads that run have it in common.
CallerId this_caller() {
  static thread_local const char here = 0;
  return CallerId{reinterpret_cast<std::uintptr_t>(&here)};
}

/// What a pager has of a budget that it may share with others.
class BudgetShare {
 public:
  BudgetShare(std::shared_ptr<ArenaBudget> budget, Bytes size) : budget_(std::move(budget)) {
    grow_to(size);
  }
  ~BudgetShare() { shrink_to(Bytes{}); }
  BudgetShare(const BudgetShare&) = delete;
  BudgetShare& operator=(const BudgetShare&) = delete;

  void grow_to(Bytes size) {
    if (size <= size_) return;
    if (budget_) budget_->take(size - size_);
    size_ = size;
  }
  void shrink_to(Bytes size) noexcept {
    if (size >= size_) return;
    if (budget_) budget_->give_back(size_ - size);
    size_ = size;
  }

 private:
  const std::shared_ptr<ArenaBudget> budget_;
  Bytes size_;
};

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

/// What a lease knows of its pager, which it may outlive.
class Lease::Issuer {
 public:
  virtual ~Issuer() = default;
  /// All of one stream.
  virtual void release(std::span<const LeaseId> leases, StreamRef stream) noexcept = 0;
};

/// The driver with its mutex and its thread: callers ask it under the mutex and wait for answers;
/// the thread carries out its work.
class Pager::Impl final : public Lease::Issuer {
 public:
  Impl(std::unique_ptr<Device> device, std::shared_ptr<const BackingStore> store,
       const PagerOptions& options);
  ~Impl() override = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  bool in_child() const noexcept { return birthplace_.elsewhere(); }
  /// The end of the pager; leases may still refer to what is left.
  void close() noexcept;

  void set_plan(const AccessPlan& plan);
  LeaseId acquire_step(StepIndex step, std::span<const ByteRange> chosen, StreamRef stream);
  LeaseId acquire_ranges(std::span<const ByteRange> ranges, StreamRef stream);
  std::optional<LeaseId> try_acquire(std::span<const ByteRange> ranges, StreamRef stream);
  LeaseId pin(std::span<const ByteRange> ranges, StreamRef stream);
  void prefetch(std::span<const ByteRange> ranges);
  void release(std::span<const LeaseId> leases, StreamRef stream) noexcept override;
  void check(StreamRef stream);
  void set_arena(Bytes arena);
  void evict_all();
  void settle();
  Statistics statistics() const;
  Bytes minimum_arena() const;

  const PageLayout& layout() const { return layout_; }
  Device& device() const {
    birthplace_.require_here("this pager");
    return *device_;
  }

 private:
  using Lock = std::unique_lock<std::mutex>;
  class Call;

  template <class Ask>
  LeaseId acquire(const Ask& ask, StreamRef stream);
  LeaseId wait_for(Call& call, LeaseId lease, const Caller& caller);
  [[noreturn]] void abandon(LeaseId lease, std::exception_ptr reason);
  template <class Condition>
  void wait(Call& call, Condition condition);
  void announce();
  void run();
  void work();
  void wake_thread();
  bool next_round();

  const Birthplace birthplace_;
  const std::shared_ptr<const BackingStore> store_;
  std::unique_ptr<Device> device_;
  const PageLayout layout_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;  // callers that wait may look again
  mutable std::uint32_t inside_ = 0;         // calls under way
  bool closing_ = false;
  BudgetShare share_;
  std::unique_ptr<Driver> driver_;

  // Apart from mutex_, since devices announce progress while they are called under it.
  std::mutex wake_mutex_;
  std::condition_variable wake_;
  bool progress_ = true;
  bool stop_ = false;
  bool retries_ = false;  // the thread's own: it looks again though nobody wakes it

  Subscription arrivals_;
  std::thread thread_;
};

/// A call that is under way, with the mutex: the pager does not go away meanwhile.
class Pager::Impl::Call {
 public:
  explicit Call(const Impl& impl) : impl_(impl) {
    impl.birthplace_.require_here("this pager");
    lock_ = Lock(impl.mutex_);
    require_open();
    ++impl.inside_;
  }
  ~Call() {
    if (!lock_.owns_lock()) lock_.lock();
    --impl_.inside_;
    if (impl_.closing_) impl_.changed_.notify_all();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  Lock& lock() { return lock_; }
  void require_open() const {
    if (impl_.closing_) throw Error("the pager is being destroyed; end its users first");
  }

 private:
  const Impl& impl_;
  Lock lock_;
};

Pager::Impl::Impl(std::unique_ptr<Device> device, std::shared_ptr<const BackingStore> store,
                  const PagerOptions& options)
    : store_(std::move(store)),
      device_(std::move(device)),
      layout_(layout_for(required(device_), required(store_), options)),
      share_(options.budget, layout_.page * frames_of(layout_, options.arena)),
      driver_(
          std::make_unique<Driver>(*device_, *store_, core_options(layout_, options), options)) {
  driver_->publish_all();
  device_->on_progress([this] { wake_thread(); });
  try {
    arrivals_ = store_->announce([this](ByteRange range) {
      const std::lock_guard lock(mutex_);
      driver_->host_bytes_ready(range);
      announce();
    });
    thread_ = std::thread([this] { run(); });
  } catch (...) {
    arrivals_.end();
    device_->on_progress({});
    throw;
  }
}

void Pager::Impl::close() noexcept {
  arrivals_.end();
  {
    Lock lock(mutex_);
    closing_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return inside_ == 0; });
    driver_->end_all_leases();
    wake_thread();
    while (!driver_->quiet()) {
      changed_.wait_for(lock, kLastLook);
      driver_->observe();
    }
  }
  device_->on_progress({});
  {
    const std::lock_guard lock(wake_mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
  const std::lock_guard lock(mutex_);
  // What queued work may still read stays for ever.
  if (driver_->lost_track()) static_cast<void>(device_.release());
  driver_.reset();
  device_.reset();
  share_.shrink_to(Bytes{});
}

void Pager::Impl::wake_thread() {
  {
    const std::lock_guard lock(wake_mutex_);
    progress_ = true;
  }
  wake_.notify_one();
}

/// Under the mutex, after anything that may have changed somebody's answer.
void Pager::Impl::announce() {
  if (driver_->take_news()) changed_.notify_all();
  if (driver_->has_work() || driver_->has_unfenced()) wake_thread();
}

bool Pager::Impl::next_round() {
  Lock lock(wake_mutex_);
  const auto woken = [&] { return stop_ || progress_; };
  if (retries_) {
    wake_.wait_for(lock, kLastLook, woken);
  } else {
    wake_.wait(lock, woken);
  }
  progress_ = false;
  return !stop_;
}

void Pager::Impl::run() {
  while (next_round()) work();
}

void Pager::Impl::work() {
  Lock lock(mutex_);
  driver_->observe();
  while (const auto work = driver_->take_work()) {
    if (driver_->take_news()) changed_.notify_all();
    lock.unlock();
    Driver::Outcome outcome = driver_->carry_out(*work);
    lock.lock();
    driver_->carried_out(*work, std::move(outcome));
    driver_->observe();
  }
  retries_ = driver_->has_unfenced();
  driver_->publish_all();
  if (driver_->take_news()) changed_.notify_all();
}

/// Until the condition holds, the device fails, or the pager ends, which throws.
template <class Condition>
void Pager::Impl::wait(Call& call, Condition condition) {
  announce();
  changed_.wait(call.lock(), [&] { return closing_ || driver_->failed() || condition(); });
  call.require_open();
}

void Pager::Impl::set_plan(const AccessPlan& plan) {
  const Call call(*this);
  driver_->require_usable();
  driver_->set_plan(plan);
  announce();
}

/// A failed copy is tried once more: it may have failed for the sake of a neighbouring page that
/// was copied along.
template <class Ask>
LeaseId Pager::Impl::acquire(const Ask& ask, StreamRef stream) {
  Call call(*this);
  const Caller caller{
      .id = this_caller(), .stream = stream, .queue = device_->clock().identify(stream)};
  driver_->require_usable();
  if (const auto report = driver_->take_report(caller.queue)) report->raise();
  try {
    return wait_for(call, ask(caller), caller);
  } catch (const StoreError&) {
    return wait_for(call, ask(caller), caller);
  }
}

LeaseId Pager::Impl::acquire_step(StepIndex step, std::span<const ByteRange> chosen,
                                  StreamRef stream) {
  return acquire([&](const Caller& caller) { return driver_->acquire(step, chosen, caller); },
                 stream);
}

LeaseId Pager::Impl::acquire_ranges(std::span<const ByteRange> ranges, StreamRef stream) {
  return acquire([&](const Caller& caller) { return driver_->acquire(ranges, caller); }, stream);
}

std::optional<LeaseId> Pager::Impl::try_acquire(std::span<const ByteRange> ranges,
                                                StreamRef stream) {
  {
    const Call call(*this);
    if (!driver_->resident(ranges)) return std::nullopt;
  }
  return acquire_ranges(ranges, stream);
}

LeaseId Pager::Impl::pin(std::span<const ByteRange> ranges, StreamRef stream) {
  return acquire(
      [&](const Caller& caller) {
        driver_->require_room_beside(ranges);
        return driver_->acquire(ranges, caller);
      },
      stream);
}

void Pager::Impl::prefetch(std::span<const ByteRange> ranges) {
  const Call call(*this);
  driver_->require_usable();
  driver_->prefetch(ranges);
  announce();
}

LeaseId Pager::Impl::wait_for(Call& call, LeaseId lease, const Caller& caller) {
  try {
    if (driver_->answer(lease) != Driver::Answer::yes) {
      wait(call, [&] { return driver_->answer(lease) != Driver::Answer::waiting; });
    }
  } catch (...) {
    abandon(lease, std::current_exception());
  }
  if (driver_->answer(lease) == Driver::Answer::no) abandon(lease, nullptr);

  if (const std::optional<CopyId> copy = driver_->awaited(lease)) {
    std::exception_ptr failure;
    call.lock().unlock();
    // From here on the stream waits, and the thread only if it is the stream.
    try {
      device_->copies().wait(caller.stream, *copy);
    } catch (...) {
      failure = std::current_exception();
    }
    call.lock().lock();
    driver_->observe();
    if (failure) abandon(lease, failure);
  }
  if (const std::exception_ptr failure = driver_->hand_out(lease)) abandon(lease, failure);
  announce();
  return lease;
}

void Pager::Impl::abandon(LeaseId lease, std::exception_ptr reason) {
  const std::exception_ptr known = driver_->abandon(lease);
  announce();
  std::rethrow_exception(reason ? reason : known);
}

void Pager::Impl::release(std::span<const LeaseId> leases, StreamRef stream) noexcept {
  if (birthplace_.elsewhere()) return;
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return;  // the end of the pager sees to it
    ++inside_;
  }
  const bool together = !driver_->has_stamps();
  while (!leases.empty()) {
    const std::size_t count = together ? leases.size() : 1;
    const Driver::End end = driver_->end_work(stream);
    const std::lock_guard lock(mutex_);
    driver_->release(leases.first(count), end);
    leases = leases.subspan(count);
    announce();
  }
  const std::lock_guard lock(mutex_);
  --inside_;
  if (closing_) changed_.notify_all();
}

void Pager::Impl::check(StreamRef stream) {
  Call call(*this);
  const StreamId queue = device_->clock().identify(stream);
  driver_->observe();
  wait(call, [&] { return !driver_->relying(queue); });
  if (const auto report = driver_->take_report(queue)) report->raise();
  driver_->require_usable();
}

void Pager::Impl::set_arena(Bytes arena) {
  Call call(*this);
  wait(call, [&] { return !driver_->changing_budget(); });
  driver_->require_usable();
  const std::uint32_t frames = frames_of(layout_, arena);
  share_.grow_to(layout_.page * frames);
  try {
    driver_->begin_budget(frames, this_caller());
    wait(call, [&] { return driver_->budget_answer() != Driver::Answer::waiting; });
    driver_->end_budget();
    share_.shrink_to(layout_.page * frames);
  } catch (...) {
    share_.shrink_to(layout_.page * std::max(driver_->frames(), driver_->budget()));
    announce();
    throw;
  }
  announce();
}

void Pager::Impl::evict_all() {
  Call call(*this);
  const Driver::Moment moment = driver_->now();
  wait(call, [&] { return driver_->settled(moment); });
  driver_->require_usable();
  driver_->evict_all();
  const std::uint64_t batch = driver_->batch();
  wait(call, [&] { return driver_->carried_out(batch); });
  driver_->require_usable();
}

void Pager::Impl::settle() {
  Call call(*this);
  const Driver::Moment moment = driver_->now();
  driver_->observe();
  wait(call, [&] { return driver_->settled(moment); });
  driver_->publish_all();
  if (const auto report = driver_->take_all_reports()) report->raise();
  driver_->require_usable();
}

Statistics Pager::Impl::statistics() const {
  const Call call(*this);
  return driver_->statistics(device_->link(), device_->memory());
}

Bytes Pager::Impl::minimum_arena() const {
  const Call call(*this);
  return driver_->minimum_arena();
}

Pager::Pager(std::unique_ptr<Device> device, std::shared_ptr<const BackingStore> store,
             const PagerOptions& options)
    : impl_(std::make_shared<Impl>(std::move(device), std::move(store), options)) {}

/// In a child process nothing of it may be touched, so that all of it stays.
Pager::~Pager() {
  if (impl_->in_child()) {
    new std::shared_ptr<Impl>(std::move(impl_));
  } else {
    impl_->close();
  }
}

const std::byte* Pager::address(Bytes offset) const {
  return impl_->device().range().base() + offset.count;
}
void Pager::set_plan(const AccessPlan& plan) {
  impl_->set_plan(plan);
}

Lease Pager::acquire(StepIndex step, std::span<const ByteRange> chosen, StreamRef stream) {
  return {impl_, impl_->acquire_step(step, chosen, stream), stream};
}

Lease Pager::acquire(std::span<const ByteRange> ranges, StreamRef stream) {
  return {impl_, impl_->acquire_ranges(ranges, stream), stream};
}

std::optional<Lease> Pager::try_acquire(std::span<const ByteRange> ranges, StreamRef stream) {
  const std::optional<LeaseId> lease = impl_->try_acquire(ranges, stream);
  if (!lease) return std::nullopt;
  return Lease(impl_, *lease, stream);
}

Lease Pager::pin(std::span<const ByteRange> ranges, StreamRef stream) {
  return {impl_, impl_->pin(ranges, stream), stream};
}
void Pager::prefetch(std::span<const ByteRange> ranges) {
  impl_->prefetch(ranges);
}

void Pager::check(StreamRef stream) {
  impl_->check(stream);
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

Lease::Lease(std::shared_ptr<Issuer> issuer, LeaseId id, StreamRef stream)
    : issuer_(std::move(issuer)), id_(id), stream_(stream) {}

Lease::Lease(Lease&& other) noexcept
    : issuer_(std::exchange(other.issuer_, nullptr)), id_(other.id_), stream_(other.stream_) {}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  release();
  issuer_ = std::exchange(other.issuer_, nullptr);
  id_ = other.id_;
  stream_ = other.stream_;
  return *this;
}

void Lease::release() noexcept {
  if (const auto issuer = std::exchange(issuer_, nullptr)) issuer->release({&id_, 1}, stream_);
}

void Lease::release(std::span<Lease> leases) noexcept {
  constexpr std::size_t kTogether = 64;
  std::array<LeaseId, kTogether> ids;
  while (!leases.empty()) {
    const std::shared_ptr<Issuer> issuer = leases.front().issuer_;
    const StreamRef stream = leases.front().stream_;
    std::size_t count = 0;
    while (count < std::min(leases.size(), kTogether)) {
      Lease& lease = leases[count];
      if (lease.issuer_ != issuer || lease.stream_.handle != stream.handle) break;
      lease.issuer_ = nullptr;
      ids[count++] = lease.id_;
    }
    if (issuer) issuer->release(std::span(ids).first(count), stream);
    leases = leases.subspan(count);
  }
}

}  // namespace tensor_pager
