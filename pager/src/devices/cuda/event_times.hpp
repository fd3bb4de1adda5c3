// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

#include "devices/cuda/event.hpp"
#include "devices/cuda/stream.hpp"
#include "pager/trace.hpp"

namespace tensor_pager::cuda {

/// When events passed, on the host's clock. CUDA gives the time between two events in float
/// milliseconds, so the event that others are compared with must be a recent one: after 10 seconds
/// a float is exact to 1 us, after a day to 8 ms. Used by one thread.
class EventTimes {
 public:
  explicit EventTimes(const Context& context);

  /// Compares with a new event from now on, if the present one is old. Does not wait for other
  /// work: if the GPU does not answer at once, the old one serves for a while longer.
  void renew();
  /// The event has passed and records times.
  Trace::Time of(const Event& event) const;
  static std::chrono::nanoseconds between(const Event& begin, const Event& end);

 private:
  void record();
  bool observe();

  EventPool events_;
  Stream stream_;  // nothing else is in it
  Event base_;
  Trace::Time base_time_;
  Event next_;
  Trace::Time renewal_;  // not before that
};

}  // namespace tensor_pager::cuda
