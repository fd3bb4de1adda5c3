// SPDX-License-Identifier: Apache-2.0
#include "devices/cuda/event_times.hpp"

#include <algorithm>
#include <utility>

namespace tensor_pager::cuda {

namespace {

constexpr std::chrono::seconds kRenewal{10};
constexpr std::chrono::seconds kRetry{1};
/// How long the GPU may take for an event in an empty stream; it takes 10 us when it is idle.
constexpr std::chrono::microseconds kPatience{200};
/// A thread that was interrupted between asking and looking at its clock asks again later.
constexpr std::chrono::microseconds kExact{10};

}  // namespace

EventTimes::EventTimes(const Context& context)
    : events_(context, CU_EVENT_DEFAULT), stream_(context) {
  const CurrentContext current(context);
  base_ = events_.take();
  next_ = events_.take();
  record();
  check(driver().cuEventSynchronize(next_.handle()), "cuEventSynchronize of the clock");
  base_time_ = Trace::Clock::now();
  renewal_ = base_time_ + kRenewal;
  std::swap(base_, next_);
}

void EventTimes::record() {
  check(driver().cuEventRecord(next_.handle(), stream_.handle()), "cuEventRecord of the clock");
}

void EventTimes::renew() {
  const Trace::Time now = Trace::Clock::now();
  if (now < renewal_) return;
  record();
  renewal_ = now + (observe() ? kRenewal : kRetry);
}

bool EventTimes::observe() {
  const Trace::Time end = Trace::Clock::now() + kPatience;
  while (true) {
    const Trace::Time asked = Trace::Clock::now();
    const bool passed = has_passed(next_, "cuEventQuery of the clock");
    const Trace::Time now = Trace::Clock::now();
    if (passed) {
      if (now - asked > kExact) return false;
      base_time_ = now;
      std::swap(base_, next_);
      return true;
    }
    if (now > end) return false;
  }
}

/// What has passed is not in the future, whatever the rounding.
Trace::Time EventTimes::of(const Event& event) const {
  return std::min(base_time_ + between(base_, event), Trace::Clock::now());
}

std::chrono::nanoseconds EventTimes::between(const Event& begin, const Event& end) {
  float milliseconds = 0;
  check(driver().cuEventElapsedTime(&milliseconds, begin.handle(), end.handle()),
        "cuEventElapsedTime");
  return std::chrono::nanoseconds(
      static_cast<std::int64_t>(1e6 * static_cast<double>(milliseconds)));
}

}  // namespace tensor_pager::cuda
