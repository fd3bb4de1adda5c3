// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <exception>
#include <mutex>
#include <span>

#include "devices/copy_ledger.hpp"
#include "devices/cuda/event_times.hpp"
#include "devices/cuda/paged_range.hpp"
#include "devices/cuda/poller.hpp"
#include "pager/device.hpp"

namespace tensor_pager::cuda {

/// Pinned memory through which pages of stores that are not pinned travel.
class StagingBuffer {
 public:
  explicit StagingBuffer(const Context& context) : context_(context) {}
  ~StagingBuffer();
  StagingBuffer(const StagingBuffer&) = delete;
  StagingBuffer& operator=(const StagingBuffer&) = delete;

  /// Always of the same size. The context is current.
  std::span<std::byte> get(Bytes size);

 private:
  const Context& context_;
  void* data_ = nullptr;
};

/// Copies in a stream of their own. Each has an event before and one after it.
class CopyQueue final : public CopyEngine {
 public:
  struct Options {
    double link_bytes_per_second = 0;  ///< 0 is as fast as it is
    Trace* trace = nullptr;
  };

  CopyQueue(const Context& context, const PagedRange& range, Poller& poller,
            const FirstFailure& failure, const Options& options);

  CopyId copy(const BackingStore& store, PageRun pages) override;
  std::optional<EndedCopy> take_ended() override;
  void wait(StreamRef stream, CopyId copy) override;
  LinkStatistics statistics() const override;

  /// Called by the poller's thread.
  Poller::Seen observe(const EventTimes& times);

 private:
  struct Copy {
    CopyId id{};
    PageRun pages;
    Event begin;
    Event end;  ///< none if it could not be recorded: then the copy has ended
    std::exception_ptr failure;
  };

  void queue(const BackingStore& store, Copy& copy) noexcept;
  void queue_end(Copy& copy) noexcept;
  void queue_bytes(const BackingStore& store, ByteRange bytes);
  void queue_staged(const BackingStore& store, ByteRange bytes);
  void queue_piece(Bytes offset, std::span<const std::byte> bytes);
  void pace(Bytes size);
  void finish(const Copy& copy, const EventTimes& times);

  const Context& context_;
  const PagedRange& range_;
  Poller& poller_;
  const FirstFailure& failure_;
  const double link_bytes_per_second_;
  Trace::Time link_free_{};  // when the link that is imitated has room for the next copy
  CopyLedger ledger_;
  EventPool events_;
  StagingBuffer staging_;
  Stream stream_;  // is empty before staging_ goes

  std::mutex mutex_;
  std::deque<Copy> under_way_;
};

}  // namespace tensor_pager::cuda
