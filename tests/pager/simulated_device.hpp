// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "pager/device.hpp"

namespace tensor_pager::testing {

/// A device without memory or threads, for the driver's simulator: it knows which page each frame
/// really holds and who reads it, ends copies and advances streams when it is told to, and throws
/// where the driver's promises are broken. Any of its calls can be made to fail.
class SimulatedDevice final : public Device,
                              private AddressRange,
                              private CopyEngine,
                              private StreamClock {
 public:
  /// Asked before each call that can fail, with its name: true makes it fail.
  std::function<bool(const char* call)> fault = [](const char*) { return false; };
  /// A copy has ended, well or badly.
  std::function<void(CopyId copy, bool well)> on_copy_ended;
  /// Work that read what a failed copy left: in which stream, under which lease.
  std::function<void(std::uint32_t stream, LeaseId lease)> on_garbage;

  explicit SimulatedDevice(std::uint32_t streams) : streams_(streams), captured_(streams) {}

  /// Stream 0 is the calling thread itself: the null stream.
  static StreamRef stream(std::uint32_t index) {
    return {reinterpret_cast<void*>(static_cast<std::uintptr_t>(index))};
  }
  static StreamId queue(std::uint32_t index) { return StreamId{index}; }

  // Device
  DeviceInfo info() const override {
    return {.kind = "simulated", .name = "simulated", .page_granularity = Bytes{1}};
  }
  AddressRange& range() override { return *this; }
  CopyEngine& copies() override { return *this; }
  StreamClock& clock() override { return *this; }
  void on_progress(std::function<void()> notify) override { notify_ = std::move(notify); }
  LinkStatistics link() const override { return {}; }
  MemoryStatistics memory() const override { return {}; }

  /// A stream that is being captured records nothing.
  void capture(std::uint32_t stream, bool on) { captured_[stream] = on; }
  bool captured(std::uint32_t stream) const { return captured_[stream]; }

  // What happens on its own
  bool can_end_copy() const { return !under_way_.empty(); }
  void end_copy(bool well);
  /// The stream's next operation takes place, or its work begins or ends. False if it waits.
  bool advance(std::uint32_t stream);
  /// Queues work that reads the pages under a lease.
  void launch(std::uint32_t stream, LeaseId lease, std::vector<PageIndex> pages);
  /// Reads them now: the calling thread's own work.
  void read(std::uint32_t stream, LeaseId lease, std::span<const PageIndex> pages);

  /// The copy under way, or failed without anybody having been told, that the page's content is of.
  std::optional<CopyId> copy_under_way(PageIndex page) const;
  /// Whether that copy or one before it is under way.
  bool copying(CopyId until) const { return can_end_copy() && under_way_.front().id <= until; }
  std::size_t frames() const { return frames_.size(); }
  bool reads_queued() const;
  /// Whether there is something that the driver has not taken.
  bool has_news() const { return !ended_.empty() || !passed_.empty(); }

 private:
  struct Frame {
    std::optional<PageIndex> content;
    bool spoilt = false;  // by a copy that failed
    bool writing = false;
    std::uint32_t readers = 0;
  };
  struct Operation {
    enum class Kind : std::uint8_t { wait, work, fence, stamp } kind{};
    std::uint64_t id = 0;
    LeaseId lease{};
    std::vector<PageIndex> pages{};
    bool begun = false;
  };
  struct Copy {
    CopyId id{};
    PageRun pages;
  };

  // AddressRange
  void reserve(const PageLayout& layout) override;
  std::byte* base() const override { return nullptr; }
  void create_frame(FrameIndex frame) override;
  void destroy_frame(FrameIndex frame) override;
  void map(PageIndex first, std::span<const FrameIndex> frames) override;
  void unmap(PageIndex first, std::uint32_t count) override;
  // CopyEngine
  CopyId copy(const BackingStore& store, PageRun pages) override;
  std::optional<EndedCopy> take_ended() override;
  void wait(StreamRef stream, CopyId copy) override;
  LinkStatistics statistics() const override { return {}; }
  // StreamClock
  StreamId identify(StreamRef stream) const override { return queue(index_of(stream)); }
  std::optional<FenceId> record(StreamRef stream) override;
  std::vector<FenceId> take_passed() override;
  StampId stamp(StreamRef stream) override;
  std::optional<Trace::Time> take_stamp(StampId stamp) override;
  // Device
  std::byte* allocate_memory(Bytes) override { return nullptr; }
  void free_memory(std::byte*, Bytes) noexcept override {}

  static std::uint32_t index_of(StreamRef stream) {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(stream.handle));
  }
  void may_fail(const char* call) const;
  void announce() const {
    if (notify_) notify_();
  }
  Frame& frame_of(PageIndex page);
  void require_unread(PageIndex page, const std::string& action);
  void begin_reading(std::uint32_t stream, LeaseId lease, std::span<const PageIndex> pages);
  void end_reading(std::span<const PageIndex> pages);

  std::vector<std::deque<Operation>> streams_;
  std::vector<bool> captured_;
  std::map<FrameIndex, Frame> frames_;
  std::map<PageIndex, FrameIndex> mapped_;
  std::map<PageIndex, std::uint32_t> readers_;
  std::deque<Copy> under_way_;
  std::deque<EndedCopy> ended_;
  std::vector<FenceId> passed_;
  std::set<StampId> stamped_;
  std::uint64_t last_copy_ = 0;
  std::uint64_t last_mark_ = 0;
  std::function<void()> notify_;
};

}  // namespace tensor_pager::testing
