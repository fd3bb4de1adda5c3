#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "pager/backing_store.hpp"
#include "pager/ids.hpp"
#include "pager/statistics.hpp"
#include "pager/trace.hpp"
#include "pager/types.hpp"

namespace tensor_pager {

/// A caller's queue of work on a device, in the device's own terms: a cudaStream_t, a HostStream*.
/// The null stream of the host device is the calling thread.
struct StreamRef {
  void* handle = nullptr;

  auto operator<=>(const StreamRef&) const = default;
};

struct DeviceInfo {
  std::string kind;  ///< "host", "cuda"
  std::string name;
  Bytes page_granularity;  ///< page sizes are multiples of this
};

class Device;

/// Plain device memory beside the arena, returned on destruction. Move-only.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(
      DeviceBuffer&& other) noexcept;  // what this held is returned with `other`
  ~DeviceBuffer();

  std::byte* data() const { return data_; }
  Bytes size() const { return size_; }

  /// The buffer as an array of T. The memory is aligned for every T that a kernel reads.
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  friend class Device;
  DeviceBuffer(Device& device, std::byte* data, Bytes size)
      : device_(&device), data_(data), size_(size) {}

  Device* device_ = nullptr;
  std::byte* data_ = nullptr;
  Bytes size_;
};

/// One address range on a device, the frames of its arena, and the queue that copies into them:
/// what carries out the core's commands. Everything that can fail throws DeviceError with the call,
/// the bytes and the remedy.
///
/// reserve, create_frame, destroy_frame, map, unmap and copy are called by one thread at a time;
/// the others by any.
class Device {
 public:
  Device() = default;
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  virtual DeviceInfo info() const = 0;

  /// Reserves the address range, once, before everything below. It holds no memory.
  virtual void reserve(const PageLayout& layout) = 0;
  /// The address of the image's first byte; fixed until the device is destroyed.
  virtual std::byte* base() const = 0;

  virtual void create_frame(FrameIndex frame) = 0;
  /// Returns the frame's memory. No page is mapped to it any more.
  virtual void destroy_frame(FrameIndex frame) = 0;
  /// Points the page's address to the frame, and no longer to the frame that it pointed to. No work
  /// uses either.
  virtual void map(PageIndex page, FrameIndex frame) = 0;
  /// The same for neighbouring pages, from `first` on, one frame for each: fewer calls where a call
  /// costs the same for one page as for many.
  virtual void map_run(PageIndex first, std::span<const FrameIndex> frames);
  virtual void unmap(PageIndex page) = 0;
  /// The same for `count` neighbouring pages.
  virtual void unmap_run(PageIndex first, std::uint32_t count);

  /// Starts to copy the pages' bytes from the store into the frames that they are mapped to.
  /// `store` outlives the copy.
  virtual CopyId copy(const BackingStore& store, PageRun pages) = 0;
  /// Whether the copy has ended. Throws what made it fail.
  virtual bool finished(CopyId copy) = 0;

  /// Work that is queued in `stream` from now on starts after the copy has ended, well or badly.
  virtual void wait(StreamRef stream, CopyId copy) = 0;
  /// A fence that passes when the work queued in `stream` so far is done.
  virtual FenceId record(StreamRef stream) = 0;
  virtual bool passed(FenceId fence) = 0;

  /// Notes when `stream` gets here.
  virtual StampId stamp(StreamRef stream) = 0;
  /// That time on the host's clock, after which the stamp is forgotten; nothing while the stream
  /// has not got there.
  virtual std::optional<Trace::Time> take_stamp(StampId stamp) = 0;

  /// `notify` is called, from any thread, whenever a copy has ended or a fence has passed. Set
  /// once, before the first copy; an empty function ends it, and when that call has returned,
  /// notify will not be called again.
  virtual void on_progress(std::function<void()> notify) = 0;

  virtual LinkStatistics link() const = 0;
  virtual MemoryStatistics memory() const = 0;

  /// Memory beside the arena, zeroed.
  DeviceBuffer allocate(Bytes size);

 protected:
  friend class DeviceBuffer;
  virtual std::byte* allocate_memory(Bytes size) = 0;
  virtual void free_memory(std::byte* data, Bytes size) noexcept = 0;
};

}  // namespace tensor_pager
