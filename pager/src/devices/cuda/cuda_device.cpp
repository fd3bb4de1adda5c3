#include "pager/cuda_device.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "devices/cuda/check.hpp"
#include "devices/cuda/event.hpp"
#include "devices/cuda/paged_range.hpp"

namespace tensor_pager {

namespace {

using cuda::check;
using cuda::with_bytes;

/// How far an imitated link may be behind and still catch up: threads sleep longer than they ask
/// for.
constexpr std::chrono::milliseconds kPaceSlack{1};

/// How often the GPU is asked whether something ended, while something is under way. A copy of 16
/// MiB takes 300 us.
constexpr std::chrono::microseconds kPollInterval{20};

/// Selects the GPU for the calling thread before anything else of the device is made.
class SelectedGpu {
 public:
  explicit SelectedGpu(int gpu) : gpu_(gpu) {
    const int count = cuda_device_count();
    if (count == 0) throw DeviceError("no GPU was found: CUDA offers no device on this machine");
    if (gpu < 0 || gpu >= count) {
      throw DeviceError("GPU " + std::to_string(gpu) + " does not exist: there are " +
                        std::to_string(count) + ", counted from 0");
    }
    select();
    check(cudaFree(nullptr), "creating a context on GPU " + std::to_string(gpu));
  }
  void select() const { check(cudaSetDevice(gpu_), "cudaSetDevice " + std::to_string(gpu_)); }
  int index() const { return gpu_; }

 private:
  int gpu_;
};

class Stream {
 public:
  Stream() {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~Stream() {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }  // NOLINT(google-explicit-constructor)

 private:
  cudaStream_t stream_ = nullptr;
};

/// Pinned memory through which pages of stores that are not pinned travel.
class StagingBuffer {
 public:
  StagingBuffer() = default;
  ~StagingBuffer() {
    if (data_ != nullptr) cudaFreeHost(data_);
  }
  StagingBuffer(const StagingBuffer&) = delete;
  StagingBuffer& operator=(const StagingBuffer&) = delete;

  std::span<std::byte> get(Bytes size) {
    if (data_ == nullptr) {
      check(cudaMallocHost(&data_, size.count), with_bytes("cudaMallocHost", size));
    }
    return {static_cast<std::byte*>(data_), size.count};
  }

 private:
  void* data_ = nullptr;
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(const CudaDeviceOptions& options);
  ~CudaDevice() override;

  DeviceInfo info() const override;
  void reserve(const PageLayout& layout) override;
  std::byte* base() const override { return range_.base(); }
  void create_frame(FrameIndex frame) override;
  void destroy_frame(FrameIndex frame) override;
  void map(PageIndex page, FrameIndex frame) override { map_run(page, {&frame, 1}); }
  void map_run(PageIndex first, std::span<const FrameIndex> frames) override;
  void unmap(PageIndex page) override { unmap_run(page, 1); }
  void unmap_run(PageIndex first, std::uint32_t count) override;

  CopyId copy(const BackingStore& store, PageRun pages) override;
  bool finished(CopyId copy) override;
  void wait(StreamRef stream, CopyId copy) override;
  FenceId record(StreamRef stream) override;
  bool passed(FenceId fence) override;
  StampId stamp(StreamRef stream) override;
  std::optional<Trace::Time> take_stamp(StampId stamp) override;
  void on_progress(std::function<void()> notify) override;
  LinkStatistics link() const override;
  MemoryStatistics memory() const override;

 protected:
  std::byte* allocate_memory(Bytes size) override;
  void free_memory(std::byte* data, Bytes size) noexcept override;

 private:
  struct Copy {
    CopyId id{};
    cudaEvent_t begin = nullptr;
    cudaEvent_t end = nullptr;
    Bytes size;
    PageRun pages;
  };

  void queue(const BackingStore& store, ByteRange bytes);
  void queue_staged(const BackingStore& store, ByteRange bytes);
  void poll();
  bool observe();
  static bool ended(const Copy& copy);
  void pace(Bytes size);
  void finish(const Copy& copy);
  void rebase_clock();
  Trace::Time time_of(cudaEvent_t event) const;
  void add_memory(Bytes size);
  void remove_memory(Bytes size) noexcept;

  const CudaDeviceOptions options_;
  SelectedGpu gpu_;
  std::string name_;
  PageLayout layout_;
  cuda::PagedRange range_;
  Stream copies_stream_;
  StagingBuffer staging_;
  Trace::Time link_free_{};  // when the link that is imitated has room for the next copy

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  cuda::EventPool timed_events_{cudaEventDefault};
  cuda::EventPool events_{cudaEventDisableTiming};
  cudaEvent_t clock_event_ = nullptr;  // the GPU's time at clock_time_
  Trace::Time clock_time_;
  std::uint64_t started_ = 0;
  std::uint64_t ended_ = 0;
  std::deque<Copy> under_way_;
  std::map<std::uint64_t, std::exception_ptr> failures_;
  std::uint64_t fences_ = 0;
  std::map<FenceId, cudaEvent_t> pending_fences_;
  std::uint64_t stamps_ = 0;
  std::map<StampId, cudaEvent_t> pending_stamps_;
  LinkStatistics link_;
  MemoryStatistics memory_;
  bool stop_ = false;

  std::mutex notify_mutex_;  // held while notify_ runs; never together with mutex_
  std::function<void()> notify_;

  std::thread poller_;  // last: it uses all of the above
};

CudaDevice::CudaDevice(const CudaDeviceOptions& options)
    : options_(options), gpu_(options.gpu), range_(options.gpu) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, gpu_.index()), "cudaGetDeviceProperties");
  name_ = properties.name;
  clock_event_ = timed_events_.take();
  rebase_clock();
  poller_ = std::thread([this] { poll(); });
}

CudaDevice::~CudaDevice() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  poller_.join();
  cudaStreamSynchronize(copies_stream_);
  for (const Copy& copy : under_way_) {
    timed_events_.give_back(copy.begin);
    timed_events_.give_back(copy.end);
  }
  for (const auto& [fence, event] : pending_fences_) events_.give_back(event);
  for (const auto& [stamp, event] : pending_stamps_) timed_events_.give_back(event);
  timed_events_.give_back(clock_event_);
}

DeviceInfo CudaDevice::info() const {
  return {.kind = "cuda", .name = name_, .page_granularity = range_.granularity()};
}

void CudaDevice::reserve(const PageLayout& layout) {
  gpu_.select();
  layout_ = layout;
  range_.reserve(layout);
}

void CudaDevice::create_frame(FrameIndex frame) {
  gpu_.select();
  range_.create_frame(frame);
  add_memory(layout_.page);
}

void CudaDevice::destroy_frame(FrameIndex frame) {
  gpu_.select();
  range_.destroy_frame(frame);
  remove_memory(layout_.page);
}

void CudaDevice::map_run(PageIndex first, std::span<const FrameIndex> frames) {
  gpu_.select();
  range_.map_run(first, frames);
}

void CudaDevice::unmap_run(PageIndex first, std::uint32_t count) {
  gpu_.select();
  range_.unmap_run(first, count);
}

CopyId CudaDevice::copy(const BackingStore& store, PageRun pages) {
  gpu_.select();
  Copy copy{.id = {},
            .begin = nullptr,
            .end = nullptr,
            .size = layout_.bytes_of(pages.first, pages.count).size,
            .pages = pages};
  {
    const std::lock_guard lock(mutex_);
    copy.begin = timed_events_.take();
    copy.end = timed_events_.take();
  }
  if (options_.link_bytes_per_second > 0) pace(copy.size);
  std::exception_ptr failure;
  check(cudaEventRecord(copy.begin, copies_stream_), "cudaEventRecord before a copy");
  try {
    queue(store, layout_.bytes_of(pages.first, pages.count));
  } catch (...) {
    failure = std::current_exception();
  }
  check(cudaEventRecord(copy.end, copies_stream_), "cudaEventRecord after a copy");

  const std::lock_guard lock(mutex_);
  copy.id = CopyId{++started_};
  if (failure) failures_[started_] = failure;
  under_way_.push_back(copy);
  changed_.notify_all();
  return copy.id;
}

/// Lets a copy start when the slower link that is imitated would have carried those before it.
void CudaDevice::pace(Bytes size) {
  std::this_thread::sleep_until(link_free_);
  const double seconds = static_cast<double>(size.count) / options_.link_bytes_per_second;
  link_free_ = std::max(link_free_, Trace::Clock::now() - kPaceSlack) +
               std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 * seconds));
}

/// Whatever is pinned, the GPU fetches by itself; a run of pages is one copy, since neighbours lie
/// side by side in both address ranges.
void CudaDevice::queue(const BackingStore& store, ByteRange bytes) {
  while (bytes.size > Bytes{0}) {
    const Bytes pinned = store.pinned(bytes.offset, bytes.size);
    if (pinned == Bytes{0}) return queue_staged(store, bytes);
    check(cudaMemcpyAsync(range_.base() + bytes.offset.count, store.data() + bytes.offset.count,
                          pinned.count, cudaMemcpyHostToDevice, copies_stream_),
          with_bytes("cudaMemcpyAsync", pinned));
    bytes.offset += pinned;
    bytes.size -= pinned;
  }
}

void CudaDevice::queue_staged(const BackingStore& store, ByteRange bytes) {
  const std::span<std::byte> staging = staging_.get(layout_.page);
  while (bytes.size > Bytes{0}) {
    const Bytes piece = std::min(bytes.size, layout_.page);
    check(cudaStreamSynchronize(copies_stream_), "waiting for the staging buffer");
    store.read(bytes.offset, staging.first(piece.count));
    check(cudaMemcpyAsync(range_.base() + bytes.offset.count, staging.data(), piece.count,
                          cudaMemcpyHostToDevice, copies_stream_),
          with_bytes("cudaMemcpyAsync", piece));
    bytes.offset += piece;
    bytes.size -= piece;
  }
}

/// Asks the GPU what has ended, and says so. Asking from here, and not by a callback in the stream,
/// keeps the copy engine free of gaps.
void CudaDevice::poll() {
  gpu_.select();
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (under_way_.empty() && pending_fences_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const bool progress = observe();
    lock.unlock();
    if (progress) {
      changed_.notify_all();
      const std::lock_guard notify_lock(notify_mutex_);
      if (notify_) notify_();
    } else {
      std::this_thread::sleep_for(kPollInterval);
    }
    lock.lock();
  }
}

bool CudaDevice::observe() {
  bool progress = false;
  while (!under_way_.empty() && ended(under_way_.front())) {
    finish(under_way_.front());
    under_way_.pop_front();
    progress = true;
  }
  for (auto it = pending_fences_.begin(); it != pending_fences_.end();) {
    // A stream that failed has stopped: what it was to read can go, and its owner learns of the
    // failure from CUDA.
    const cudaError_t state = cudaEventQuery(it->second);
    if (state == cudaErrorNotReady) {
      cudaGetLastError();
      ++it;
      continue;
    }
    events_.give_back(it->second);
    it = pending_fences_.erase(it);
    progress = true;
  }
  return progress;
}

bool CudaDevice::ended(const Copy& copy) {
  const cudaError_t state = cudaEventQuery(copy.end);
  if (state == cudaErrorNotReady) cudaGetLastError();
  return state != cudaErrorNotReady;
}

void CudaDevice::finish(const Copy& copy) {
  ended_ = static_cast<std::uint64_t>(copy.id);
  try {
    check(cudaEventQuery(copy.end), with_bytes("a copy", copy.size));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, copy.begin, copy.end),
          "cudaEventElapsedTime of a copy");
    link_.busy += std::chrono::nanoseconds(
        static_cast<std::int64_t>(1e6 * static_cast<double>(milliseconds)));
    link_.copies += 1;
    if (!failures_.contains(ended_)) link_.copied += copy.size;
    if (options_.trace != nullptr) {
      const std::uint32_t last = copy.pages.first.value + copy.pages.count - 1;
      options_.trace->add({.track = Trace::Track::copies,
                           .begin = time_of(copy.begin),
                           .end = time_of(copy.end),
                           .name = "copy",
                           .detail = "pages " + std::to_string(copy.pages.first.value) + " to " +
                                     std::to_string(last) + ", " + std::to_string(copy.size.count) +
                                     " bytes",
                           .copy = static_cast<std::uint64_t>(copy.id),
                           .pages = copy.pages,
                           .bytes = failures_.contains(ended_) ? Bytes{} : copy.size});
    }
  } catch (...) {
    failures_.emplace(ended_, std::current_exception());
  }
  timed_events_.give_back(copy.begin);
  timed_events_.give_back(copy.end);
}

void CudaDevice::rebase_clock() {
  check(cudaEventRecord(clock_event_, copies_stream_), "cudaEventRecord of the clock");
  check(cudaEventSynchronize(clock_event_), "cudaEventSynchronize of the clock");
  clock_time_ = Trace::Clock::now();
}

/// The host's time of an event, exact to a few microseconds in the first minute (the GPU's clock is
/// read as a float).
Trace::Time CudaDevice::time_of(cudaEvent_t event) const {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, clock_event_, event),
        "cudaEventElapsedTime of the clock");
  return clock_time_ + std::chrono::nanoseconds(
                           static_cast<std::int64_t>(1e6 * static_cast<double>(milliseconds)));
}

bool CudaDevice::finished(CopyId copy) {
  const std::lock_guard lock(mutex_);
  const auto id = static_cast<std::uint64_t>(copy);
  if (id > ended_) return false;
  if (const auto failure = failures_.find(id); failure != failures_.end())
    std::rethrow_exception(failure->second);
  return true;
}

void CudaDevice::wait(StreamRef stream, CopyId copy) {
  gpu_.select();
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(under_way_.begin(), under_way_.end(),
                                  [&](const Copy& c) { return c.id == copy; });
  if (found == under_way_.end()) return;
  check(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream.handle), found->end, 0),
        "cudaStreamWaitEvent");
}

FenceId CudaDevice::record(StreamRef stream) {
  gpu_.select();
  const std::lock_guard lock(mutex_);
  cudaEvent_t event = events_.take();
  const FenceId fence{++fences_};
  check(cudaEventRecord(event, static_cast<cudaStream_t>(stream.handle)),
        "cudaEventRecord of a fence");
  pending_fences_[fence] = event;
  changed_.notify_all();
  return fence;
}

bool CudaDevice::passed(FenceId fence) {
  const std::lock_guard lock(mutex_);
  return !pending_fences_.contains(fence);
}

StampId CudaDevice::stamp(StreamRef stream) {
  gpu_.select();
  const std::lock_guard lock(mutex_);
  cudaEvent_t event = timed_events_.take();
  const StampId id{++stamps_};
  pending_stamps_[id] = event;
  check(cudaEventRecord(event, static_cast<cudaStream_t>(stream.handle)),
        "cudaEventRecord of a stamp");
  return id;
}

std::optional<Trace::Time> CudaDevice::take_stamp(StampId stamp) {
  gpu_.select();
  const std::lock_guard lock(mutex_);
  const auto found = pending_stamps_.find(stamp);
  if (found == pending_stamps_.end() || !cuda::passed(found->second, "work before a stamp"))
    return std::nullopt;
  const Trace::Time time = time_of(found->second);
  timed_events_.give_back(found->second);
  pending_stamps_.erase(found);
  return time;
}

void CudaDevice::on_progress(std::function<void()> notify) {
  const std::lock_guard lock(notify_mutex_);
  notify_ = std::move(notify);
}

LinkStatistics CudaDevice::link() const {
  const std::lock_guard lock(mutex_);
  return link_;
}

MemoryStatistics CudaDevice::memory() const {
  const std::lock_guard lock(mutex_);
  return memory_;
}

std::byte* CudaDevice::allocate_memory(Bytes size) {
  gpu_.select();
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, size.count);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw DeviceError(with_bytes("cudaMalloc", size) +
                      " failed: the GPU's memory is full; lower --vram, or end what "
                      "else uses the GPU");
  }
  check(error, with_bytes("cudaMalloc", size));
  add_memory(size);
  check(cudaMemset(data, 0, size.count), with_bytes("cudaMemset", size));
  return static_cast<std::byte*>(data);
}

void CudaDevice::free_memory(std::byte* data, Bytes size) noexcept {
  cudaFree(data);  // fails harmlessly while the process exits
  remove_memory(size);
}

void CudaDevice::add_memory(Bytes size) {
  const std::lock_guard lock(mutex_);
  memory_.current += size;
  memory_.peak = std::max(memory_.peak, memory_.current);
}

void CudaDevice::remove_memory(Bytes size) noexcept {
  const std::lock_guard lock(mutex_);
  memory_.current -= size;
}

}  // namespace

int cuda_device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

Bytes cuda_free_memory(int gpu) {
  const SelectedGpu selected(gpu);
  std::size_t free = 0;
  std::size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return {free};
}

std::unique_ptr<Device> make_cuda_device(const CudaDeviceOptions& options) {
  return std::make_unique<CudaDevice>(options);
}

}  // namespace tensor_pager
