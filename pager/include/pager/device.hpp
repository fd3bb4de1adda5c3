// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pager/backing_store.hpp"
#include "pager/export.hpp"
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
class TENSOR_PAGER_EXPORT DeviceBuffer {
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

/// The addresses of an image on a device, and the frames that they point to. Everything that can
/// fail throws DeviceError with the call, the bytes and the remedy. Called by one thread at a time.
class TENSOR_PAGER_EXPORT AddressRange {
 public:
  AddressRange() = default;
  virtual ~AddressRange() = default;
  AddressRange(const AddressRange&) = delete;
  AddressRange& operator=(const AddressRange&) = delete;

  /// Reserves the addresses, once, before everything below. It holds no memory.
  virtual void reserve(const PageLayout& layout) = 0;
  /// The address of the image's first byte; fixed until the device is destroyed.
  virtual std::byte* base() const = 0;

  /// A frame that is refused leaves everything as it was.
  virtual void create_frame(FrameIndex frame) = 0;
  /// Returns the frame's memory. No page is mapped to it any more.
  virtual void destroy_frame(FrameIndex frame) = 0;
  /// Points the addresses of neighbouring pages, from `first` on, to one frame each, and no longer
  /// to those that they pointed to. No work uses the pages. Several pages may point to one frame.
  virtual void map(PageIndex first, std::span<const FrameIndex> frames) = 0;
  /// Neighbouring pages point nowhere any more, wherever they did.
  virtual void unmap(PageIndex first, std::uint32_t count) = 0;
};

struct EndedCopy {
  CopyId id{};
  std::exception_ptr failure;  ///< null if the copy went well
};

/// The queue that copies pages to where they are mapped.
class TENSOR_PAGER_EXPORT CopyEngine {
 public:
  CopyEngine() = default;
  virtual ~CopyEngine() = default;
  CopyEngine(const CopyEngine&) = delete;
  CopyEngine& operator=(const CopyEngine&) = delete;

  /// Starts to copy the pages' bytes from the store into the frames that they are mapped to.
  /// `store` outlives the copy. Called by one thread at a time, that of the AddressRange. What goes
  /// wrong later, or in the store, is the copy's failure and not an exception.
  virtual CopyId copy(const BackingStore& store, PageRun pages) = 0;
  /// The oldest copy that has ended and was not taken yet, in the order in which they were started.
  /// After that the engine forgets it. Throws DeviceError if the device can no longer tell.
  virtual std::optional<EndedCopy> take_ended() = 0;
  /// Work that is queued in `stream` from now on starts after the copy has ended, well or badly.
  virtual void wait(StreamRef stream, CopyId copy) = 0;
  virtual LinkStatistics statistics() const = 0;
};

/// What callers' streams have got to. Thread-safe.
class TENSOR_PAGER_EXPORT StreamClock {
 public:
  StreamClock() = default;
  virtual ~StreamClock() = default;
  StreamClock(const StreamClock&) = delete;
  StreamClock& operator=(const StreamClock&) = delete;

  /// Which queue of work this is: equal for equal queues, whatever handle or thread they are
  /// named by. Throws Error if pages cannot be acquired in it: a stream of another device, one
  /// that is being captured.
  virtual StreamId identify(StreamRef stream) const = 0;

  /// A fence that passes when the work queued in `stream` so far is done; nothing if it is done.
  virtual std::optional<FenceId> record(StreamRef stream) = 0;
  /// The fences that have passed and were not taken yet. After that the clock forgets them. Throws
  /// DeviceError if the device can no longer tell.
  virtual std::vector<FenceId> take_passed() = 0;

  /// Notes when `stream` gets here.
  virtual StampId stamp(StreamRef stream) = 0;
  /// That time on the host's clock, after which the stamp is forgotten; nothing while the stream
  /// has not got there.
  virtual std::optional<Trace::Time> take_stamp(StampId stamp) = 0;
};

/// A device that pages live on, in its parts, and plain memory beside the arena. Destroying it
/// waits for copies that are under way.
class TENSOR_PAGER_EXPORT Device {
 public:
  Device() = default;
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  virtual DeviceInfo info() const = 0;
  virtual AddressRange& range() = 0;
  virtual CopyEngine& copies() = 0;
  virtual StreamClock& clock() = 0;

  /// `notify` is called, from any thread, whenever a copy has ended, a fence has passed, or a
  /// stream has got to a stamp. Set once, before the first copy; an empty function ends it, and
  /// when that call has returned, notify will not be called again.
  virtual void on_progress(std::function<void()> notify) = 0;

  virtual LinkStatistics link() const = 0;
  virtual MemoryStatistics memory() const = 0;

  /// Memory beside the arena, zeroed: whatever stream uses it finds zeros.
  DeviceBuffer allocate(Bytes size);

 protected:
  friend class DeviceBuffer;
  virtual std::byte* allocate_memory(Bytes size) = 0;
  virtual void free_memory(std::byte* data, Bytes size) noexcept = 0;
};

}  // namespace tensor_pager
