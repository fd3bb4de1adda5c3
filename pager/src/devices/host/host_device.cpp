#include "pager/host_device.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pager/errors.hpp"
#include "system_call.hpp"

namespace tensor_pager {

namespace {

constexpr const char* kMemoryRemedy = "; free host memory, or give the arena less";

/// The address range and the frames: what map and unmap do, and nothing about time.
class PagedRange {
 public:
  PagedRange() = default;
  PagedRange(const PagedRange&) = delete;
  PagedRange& operator=(const PagedRange&) = delete;

  ~PagedRange() {
    for (std::byte* window : windows_) {
      if (window != nullptr) ::munmap(window, page_.count);
    }
    if (base_ != nullptr) ::munmap(base_, size_.count);
    if (memory_ >= 0) ::close(memory_);
  }

  void reserve(const PageLayout& layout) {
    page_ = layout.page;
    size_ = round_up(layout.image, layout.page);
    void* const range =
        ::mmap(nullptr, size_.count, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED)
      throw DeviceError(
          failed_call("reserving " + std::to_string(size_.count) + " bytes of addresses") +
          kAddressesRemedy);
    base_ = static_cast<std::byte*>(range);
    frame_of_.resize(layout.page_count());
    memory_ = ::memfd_create("tensor-pager-arena", MFD_CLOEXEC);
    if (memory_ < 0) throw DeviceError(failed_call("memfd_create of the arena") + kMemoryRemedy);
  }

  void create_frame(FrameIndex frame) {
    if (frame.value >= windows_.size()) {
      windows_.resize(frame.value + 1, nullptr);
      if (::ftruncate(memory_, offset(frame) + static_cast<off_t>(page_.count)) != 0) {
        throw DeviceError(failed_call("ftruncate of the arena to " +
                                      std::to_string(page_.count * windows_.size()) + " bytes") +
                          kMemoryRemedy);
      }
    }
    // Taken now, and not at the first write: running out of memory is an error here, and a SIGBUS
    // there.
    if (::fallocate(memory_, 0, offset(frame), static_cast<off_t>(page_.count)) != 0) {
      throw DeviceError(
          failed_call("allocating a frame of " + std::to_string(page_.count) + " bytes") +
          kMemoryRemedy);
    }
    void* const window =
        ::mmap(nullptr, page_.count, PROT_READ | PROT_WRITE, MAP_SHARED, memory_, offset(frame));
    if (window == MAP_FAILED) {
      throw DeviceError(
          failed_call("mmap of a frame of " + std::to_string(page_.count) + " bytes") +
          kMapsRemedy);
    }
    windows_[frame.value] = static_cast<std::byte*>(window);
  }

  void destroy_frame(FrameIndex frame) {
    ::munmap(std::exchange(windows_.at(frame.value), nullptr), page_.count);
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (::fallocate(memory_, mode, offset(frame), static_cast<off_t>(page_.count)) != 0) {
      throw DeviceError(
          failed_call("returning a frame of " + std::to_string(page_.count) + " bytes"));
    }
  }

  void map(PageIndex page, FrameIndex frame) {
    // Populated at once: a system call for the page is cheaper than a fault for each of its 4 KiB
    // pieces.
    void* const mapped = ::mmap(address(page), page_.count, PROT_READ,
                                MAP_SHARED | MAP_FIXED | MAP_POPULATE, memory_, offset(frame));
    if (mapped == MAP_FAILED) {
      throw DeviceError(failed_call("mapping a page of " + std::to_string(page_.count) + " bytes") +
                        kMapsRemedy);
    }
    frame_of_[page.value] = frame;
  }

  void unmap(PageIndex page) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    if (::mmap(address(page), page_.count, PROT_NONE, flags, -1, 0) == MAP_FAILED) {
      throw DeviceError(
          failed_call("unmapping a page of " + std::to_string(page_.count) + " bytes"));
    }
  }

  std::byte* base() const { return base_; }
  /// Where the frame of a page can be written.
  std::byte* window(PageIndex page) const { return windows_.at(frame_of_.at(page.value).value); }

 private:
  static constexpr const char* kMapsRemedy =
      "; larger pages need fewer mappings (sysctl vm.max_map_count limits them)";

  off_t offset(FrameIndex frame) const { return static_cast<off_t>(page_.count * frame.value); }
  void* address(PageIndex page) const { return base_ + page_.count * page.value; }

  Bytes page_;
  Bytes size_;
  std::byte* base_ = nullptr;
  int memory_ = -1;
  std::vector<std::byte*> windows_;   // by frame: a second, writable mapping
  std::vector<FrameIndex> frame_of_;  // by page
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(const HostDeviceOptions& options)
      : options_(options), copier_([this] { run_copies(); }) {}

  ~HostDevice() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    copier_.join();
  }

  DeviceInfo info() const override {
    return {.kind = "host",
            .name = "host memory",
            .page_granularity = {static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))}};
  }

  void reserve(const PageLayout& layout) override {
    layout_ = layout;
    range_.reserve(layout);
  }
  std::byte* base() const override { return range_.base(); }
  void create_frame(FrameIndex frame) override {
    range_.create_frame(frame);
    add_memory(layout_.page);
  }
  void destroy_frame(FrameIndex frame) override {
    range_.destroy_frame(frame);
    remove_memory(layout_.page);
  }
  void map(PageIndex page, FrameIndex frame) override { range_.map(page, frame); }
  void unmap(PageIndex page) override { range_.unmap(page); }

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
  struct Piece {
    Bytes offset;
    std::span<std::byte> out;
  };
  struct Request {
    CopyId id{};
    const BackingStore* store = nullptr;
    std::vector<Piece> pieces;
    PageRun pages;
  };

  void run_copies();
  void carry_out(const Request& request);
  void pace(Trace::Time begin, Bytes size) const;
  void notify_progress();
  void add_memory(Bytes size);
  void remove_memory(Bytes size) noexcept;

  const HostDeviceOptions options_;
  PageLayout layout_;
  PagedRange range_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> requests_;
  std::uint64_t started_ = 0;
  std::uint64_t ended_ = 0;
  std::map<std::uint64_t, std::exception_ptr> failures_;
  std::uint64_t fences_ = 0;
  std::set<FenceId> pending_fences_;
  std::uint64_t stamps_ = 0;
  std::map<StampId, Trace::Time> passed_stamps_;
  LinkStatistics link_;
  MemoryStatistics memory_;
  bool stop_ = false;

  std::mutex notify_mutex_;  // held while notify_ runs; never together with mutex_
  std::function<void()> notify_;

  std::thread copier_;  // last: it uses all of the above
};

CopyId HostDevice::copy(const BackingStore& store, PageRun pages) {
  Request request{.id = {}, .store = &store, .pieces = {}, .pages = pages};
  for (std::uint32_t k = 0; k < pages.count; ++k) {
    const PageIndex page{pages.first.value + k};
    const ByteRange bytes = layout_.bytes_of(page);
    request.pieces.push_back({bytes.offset, {range_.window(page), bytes.size.count}});
  }
  const std::lock_guard lock(mutex_);
  request.id = CopyId{++started_};
  requests_.push_back(std::move(request));
  changed_.notify_all();
  return CopyId{started_};
}

void HostDevice::run_copies() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !requests_.empty(); });
    if (stop_) return;
    const Request request = std::move(requests_.front());
    requests_.pop_front();
    lock.unlock();
    carry_out(request);
    notify_progress();
    lock.lock();
  }
}

void HostDevice::carry_out(const Request& request) {
  const Trace::Time begin = Trace::Clock::now();
  Bytes copied;
  std::exception_ptr failure;
  try {
    for (const Piece& piece : request.pieces) {
      request.store->read(piece.offset, piece.out);
      copied += Bytes{piece.out.size()};
    }
  } catch (...) {
    failure = std::current_exception();
  }
  pace(begin, copied);
  const Trace::Time end = Trace::Clock::now();
  if (options_.trace != nullptr) {
    const std::uint32_t last = request.pages.first.value + request.pages.count - 1;
    options_.trace->add({.track = Trace::Track::copies,
                         .begin = begin,
                         .end = end,
                         .name = "copy",
                         .detail = "pages " + std::to_string(request.pages.first.value) + " to " +
                                   std::to_string(last) + ", " + std::to_string(copied.count) +
                                   " bytes",
                         .copy = static_cast<std::uint64_t>(request.id),
                         .pages = request.pages,
                         .bytes = copied});
  }
  const std::lock_guard lock(mutex_);
  ended_ = static_cast<std::uint64_t>(request.id);
  if (failure) failures_[ended_] = failure;
  link_.copied += copied;
  link_.copies += 1;
  link_.busy += end - begin;
  changed_.notify_all();
}

/// Makes the copy take as long as the link that is imitated would.
void HostDevice::pace(Trace::Time begin, Bytes size) const {
  std::chrono::nanoseconds time = options_.link_latency;
  if (options_.link_bytes_per_second > 0) {
    time += std::chrono::nanoseconds(static_cast<std::int64_t>(
        1e9 * static_cast<double>(size.count) / options_.link_bytes_per_second));
  }
  if (time.count() > 0) std::this_thread::sleep_until(begin + time);
}

void HostDevice::notify_progress() {
  const std::lock_guard lock(notify_mutex_);
  if (notify_) notify_();
}

bool HostDevice::finished(CopyId copy) {
  const std::lock_guard lock(mutex_);
  const auto id = static_cast<std::uint64_t>(copy);
  if (const auto failure = failures_.find(id); failure != failures_.end())
    std::rethrow_exception(failure->second);
  return id <= ended_;
}

void HostDevice::wait(StreamRef stream, CopyId copy) {
  const auto wait_here = [this, copy] {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return static_cast<std::uint64_t>(copy) <= ended_; });
  };
  if (stream.handle == nullptr) {
    wait_here();
  } else {
    static_cast<HostStream*>(stream.handle)->launch(wait_here);
  }
}

FenceId HostDevice::record(StreamRef stream) {
  FenceId fence{};
  {
    const std::lock_guard lock(mutex_);
    fence = FenceId{++fences_};
    if (stream.handle == nullptr) return fence;  // the caller's work is done when it gets here
    pending_fences_.insert(fence);
  }
  static_cast<HostStream*>(stream.handle)->launch([this, fence] {
    {
      const std::lock_guard lock(mutex_);
      pending_fences_.erase(fence);
    }
    notify_progress();
  });
  return fence;
}

bool HostDevice::passed(FenceId fence) {
  const std::lock_guard lock(mutex_);
  return !pending_fences_.contains(fence);
}

StampId HostDevice::stamp(StreamRef stream) {
  StampId id{};
  {
    const std::lock_guard lock(mutex_);
    id = StampId{++stamps_};
  }
  const auto pass = [this, id] {
    const std::lock_guard lock(mutex_);
    passed_stamps_[id] = Trace::Clock::now();
  };
  if (stream.handle == nullptr) {
    pass();
  } else {
    static_cast<HostStream*>(stream.handle)->launch(pass);
  }
  return id;
}

std::optional<Trace::Time> HostDevice::take_stamp(StampId stamp) {
  const std::lock_guard lock(mutex_);
  const auto found = passed_stamps_.extract(stamp);
  if (found.empty()) return std::nullopt;
  return found.mapped();
}

void HostDevice::on_progress(std::function<void()> notify) {
  const std::lock_guard lock(notify_mutex_);
  notify_ = std::move(notify);
}

LinkStatistics HostDevice::link() const {
  const std::lock_guard lock(mutex_);
  return link_;
}

MemoryStatistics HostDevice::memory() const {
  const std::lock_guard lock(mutex_);
  return memory_;
}

std::byte* HostDevice::allocate_memory(Bytes size) {
  void* const data =
      ::mmap(nullptr, size.count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    throw DeviceError(
        failed_call("allocating a buffer of " + std::to_string(size.count) + " bytes") +
        kMemoryRemedy);
  }
  add_memory(size);
  return static_cast<std::byte*>(data);
}

void HostDevice::free_memory(std::byte* data, Bytes size) noexcept {
  ::munmap(data, size.count);
  remove_memory(size);
}

void HostDevice::add_memory(Bytes size) {
  const std::lock_guard lock(mutex_);
  memory_.current += size;
  memory_.peak = std::max(memory_.peak, memory_.current);
}

void HostDevice::remove_memory(Bytes size) noexcept {
  const std::lock_guard lock(mutex_);
  memory_.current -= size;
}

}  // namespace

std::unique_ptr<Device> make_host_device(const HostDeviceOptions& options) {
  return std::make_unique<HostDevice>(options);
}

}  // namespace tensor_pager
