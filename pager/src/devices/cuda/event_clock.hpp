// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "devices/cuda/event_times.hpp"
#include "devices/cuda/poller.hpp"
#include "pager/device.hpp"

namespace tensor_pager::cuda {

/// Fences and stamps are events; the poller's thread finds out which have passed.
class EventClock final : public StreamClock {
 public:
  EventClock(const Context& context, Poller& poller, const FirstFailure& failure)
      : context_(context), poller_(poller), failure_(failure) {}

  StreamId identify(StreamRef stream) const override;
  std::optional<FenceId> record(StreamRef stream) override;
  std::vector<FenceId> take_passed() override;
  StampId stamp(StreamRef stream) override;
  std::optional<Trace::Time> take_stamp(StampId stamp) override;

  /// Called by the poller's thread.
  Poller::Seen observe(const EventTimes& times);

 private:
  template <class Id>
  struct Pending {
    Id id{};
    Event event;
  };

  Event record_in(StreamRef stream, EventPool& events, const char* what);
  void watch_new();
  bool observe_fences();
  bool observe_stamps(const EventTimes& times);

  const Context& context_;
  Poller& poller_;
  const FirstFailure& failure_;
  EventPool events_{context_, CU_EVENT_DISABLE_TIMING};
  EventPool timed_events_{context_, CU_EVENT_DEFAULT};

  std::mutex mutex_;  // not held while the GPU is asked
  std::uint64_t fences_ = 0;
  std::uint64_t stamps_ = 0;
  std::vector<Pending<FenceId>> new_fences_;
  std::vector<Pending<StampId>> new_stamps_;
  std::vector<FenceId> passed_;
  std::map<StampId, Trace::Time> passed_stamps_;

  // Of the poller's thread.
  std::vector<Pending<FenceId>> pending_fences_;
  std::vector<Pending<StampId>> pending_stamps_;
};

}  // namespace tensor_pager::cuda
