// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "pager/device.hpp"

namespace tensor_pager::testing {

/// Where a device or a store may fail: a member function each, and copies that fail after they were
/// started.
enum class FaultSite : std::uint8_t {
  reserve,
  create_frame,
  destroy_frame,
  map,
  unmap,
  copy,
  take_ended,
  ended_copy,
  wait,
  identify,
  record,
  take_passed,
  stamp,
  take_stamp,
  allocate,
  read,
};

inline constexpr std::array kFaultSites = {
    std::pair{FaultSite::reserve, "AddressRange::reserve"},
    std::pair{FaultSite::create_frame, "AddressRange::create_frame"},
    std::pair{FaultSite::destroy_frame, "AddressRange::destroy_frame"},
    std::pair{FaultSite::map, "AddressRange::map"},
    std::pair{FaultSite::unmap, "AddressRange::unmap"},
    std::pair{FaultSite::copy, "CopyEngine::copy"},
    std::pair{FaultSite::take_ended, "CopyEngine::take_ended"},
    std::pair{FaultSite::ended_copy, "a copy"},
    std::pair{FaultSite::wait, "CopyEngine::wait"},
    std::pair{FaultSite::identify, "StreamClock::identify"},
    std::pair{FaultSite::record, "StreamClock::record"},
    std::pair{FaultSite::take_passed, "StreamClock::take_passed"},
    std::pair{FaultSite::stamp, "StreamClock::stamp"},
    std::pair{FaultSite::take_stamp, "StreamClock::take_stamp"},
    std::pair{FaultSite::allocate, "Device::allocate"},
    std::pair{FaultSite::read, "BackingStore::read"},
};
static_assert(kFaultSites.size() == static_cast<std::size_t>(FaultSite::read) + 1);

/// Counts what may fail, in the order in which it is called, and makes the n-th of it fail.
/// Thread-safe.
class FaultPlan {
 public:
  /// Counted from 1.
  explicit FaultPlan(std::uint64_t fails) : fails_(fails) {}

  /// Counts; "injected: AddressRange::map, call 12" if this one is to fail.
  std::optional<std::string> next(FaultSite site);
  /// Counts, and throws E if this one is to fail.
  template <class E>
  void pass(FaultSite site) {
    if (const auto fault = next(site)) throw E(*fault);
  }

  std::uint64_t calls() const;
  std::set<FaultSite> seen() const;
  /// What was injected; empty as long as nothing was.
  std::string injected() const;

 private:
  const std::uint64_t fails_;
  mutable std::mutex mutex_;
  std::uint64_t calls_ = 0;
  std::set<FaultSite> seen_;
  std::string injected_;
};

/// Passes everything on to the parts of another range, until the plan says that it fails: then
/// nothing was done.
class FaultyRange final : public AddressRange {
 public:
  FaultyRange(AddressRange& range, FaultPlan& plan) : range_(range), plan_(plan) {}

  void reserve(const PageLayout& layout) override;
  std::byte* base() const override { return range_.base(); }
  void create_frame(FrameIndex frame) override;
  void destroy_frame(FrameIndex frame) override;
  void map(PageIndex first, std::span<const FrameIndex> frames) override;
  void unmap(PageIndex first, std::uint32_t count) override;

 private:
  AddressRange& range_;
  FaultPlan& plan_;
};

class FaultyCopies final : public CopyEngine {
 public:
  FaultyCopies(CopyEngine& copies, FaultPlan& plan) : copies_(copies), plan_(plan) {}

  CopyId copy(const BackingStore& store, PageRun pages) override;
  /// A copy that went well may be said to have failed.
  std::optional<EndedCopy> take_ended() override;
  void wait(StreamRef stream, CopyId copy) override;
  LinkStatistics statistics() const override { return copies_.statistics(); }

 private:
  CopyEngine& copies_;
  FaultPlan& plan_;
};

class FaultyClock final : public StreamClock {
 public:
  FaultyClock(StreamClock& clock, FaultPlan& plan) : clock_(clock), plan_(plan) {}

  StreamId identify(StreamRef stream) const override;
  std::optional<FenceId> record(StreamRef stream) override;
  std::vector<FenceId> take_passed() override;
  StampId stamp(StreamRef stream) override;
  std::optional<Trace::Time> take_stamp(StampId stamp) override;

 private:
  StreamClock& clock_;
  FaultPlan& plan_;
};

/// A device, and a plan of its faults.
class FaultyDevice final : public Device {
 public:
  /// `last_memory` is told what the device holds when it is destroyed.
  FaultyDevice(std::unique_ptr<Device> device, std::shared_ptr<FaultPlan> plan,
               std::function<void(MemoryStatistics)> last_memory);
  ~FaultyDevice() override;

  DeviceInfo info() const override { return device_->info(); }
  AddressRange& range() override { return range_; }
  CopyEngine& copies() override { return copies_; }
  StreamClock& clock() override { return clock_; }
  void on_progress(std::function<void()> notify) override {
    device_->on_progress(std::move(notify));
  }
  LinkStatistics link() const override { return device_->link(); }
  MemoryStatistics memory() const override { return device_->memory(); }

 protected:
  std::byte* allocate_memory(Bytes size) override;
  void free_memory(std::byte* data, Bytes size) noexcept override;

 private:
  const std::unique_ptr<Device> device_;
  const std::shared_ptr<FaultPlan> plan_;
  const std::function<void(MemoryStatistics)> last_memory_;
  FaultyRange range_;
  FaultyCopies copies_;
  FaultyClock clock_;
  std::mutex mutex_;
  std::map<std::byte*, DeviceBuffer> buffers_;
};

/// A store that fails to read when the plan says so.
class FaultyStore final : public BackingStore {
 public:
  FaultyStore(std::shared_ptr<const BackingStore> store, std::shared_ptr<FaultPlan> plan)
      : store_(std::move(store)), plan_(std::move(plan)) {}

  Bytes size() const override { return store_->size(); }
  void read(Bytes offset, std::span<std::byte> out) const override;
  const std::byte* data() const override { return store_->data(); }
  Bytes pinned(Bytes offset, Bytes size) const override { return store_->pinned(offset, size); }
  [[nodiscard]] Subscription announce(std::function<void(ByteRange)> ready) const override {
    return store_->announce(std::move(ready));
  }

 private:
  const std::shared_ptr<const BackingStore> store_;
  const std::shared_ptr<FaultPlan> plan_;
};

}  // namespace tensor_pager::testing
