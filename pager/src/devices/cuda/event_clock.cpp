// SPDX-License-Identifier: Apache-2.0
#include "devices/cuda/event_clock.hpp"

#include <iterator>
#include <utility>

#include "devices/cuda/stream_checks.hpp"

namespace tensor_pager::cuda {

namespace {

template <class Pending>
void append(std::vector<Pending>& to, std::vector<Pending>& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  from.clear();
}

}  // namespace

StreamId EventClock::identify(StreamRef stream) const {
  const CurrentContext current(context_);
  require_not_captured(stream);
  require_stream_of(context_, stream);
  return stream_id(stream);
}

Event EventClock::record_in(StreamRef stream, EventPool& events, const char* what) {
  require_not_captured(stream);
  Event event = events.take();
  check(driver().cuEventRecord(event.handle(), stream_of(stream)), what);
  return event;
}

std::optional<FenceId> EventClock::record(StreamRef stream) {
  FenceId fence{};
  {
    const CurrentContext current(context_);
    Event event = record_in(stream, events_, "cuEventRecord of a fence");
    const std::lock_guard lock(mutex_);
    fence = FenceId{++fences_};
    new_fences_.push_back({fence, std::move(event)});
  }
  poller_.wake();
  return fence;
}

std::vector<FenceId> EventClock::take_passed() {
  context_.require_here();
  const std::lock_guard lock(mutex_);
  if (passed_.empty()) failure_.rethrow();
  return std::exchange(passed_, {});
}

StampId EventClock::stamp(StreamRef stream) {
  StampId stamp{};
  {
    const CurrentContext current(context_);
    Event event = record_in(stream, timed_events_, "cuEventRecord of a stamp");
    const std::lock_guard lock(mutex_);
    stamp = StampId{++stamps_};
    new_stamps_.push_back({stamp, std::move(event)});
  }
  poller_.wake();
  return stamp;
}

std::optional<Trace::Time> EventClock::take_stamp(StampId stamp) {
  context_.require_here();
  const std::lock_guard lock(mutex_);
  const auto found = passed_stamps_.extract(stamp);
  if (!found.empty()) return found.mapped();
  failure_.rethrow();
  return std::nullopt;
}

Poller::Seen EventClock::observe(const EventTimes& times) {
  watch_new();
  const bool fences = observe_fences();
  const bool stamps = observe_stamps(times);
  return {.pending = !pending_fences_.empty() || !pending_stamps_.empty(),
          .progress = fences || stamps};
}

void EventClock::watch_new() {
  const std::lock_guard lock(mutex_);
  append(pending_fences_, new_fences_);
  append(pending_stamps_, new_stamps_);
}

bool EventClock::observe_fences() {
  std::vector<FenceId> passed;
  std::erase_if(pending_fences_, [&](const Pending<FenceId>& fence) {
    if (!has_passed(fence.event, "the work before a fence")) return false;
    passed.push_back(fence.id);
    return true;
  });
  if (passed.empty()) return false;
  const std::lock_guard lock(mutex_);
  passed_.insert(passed_.end(), passed.begin(), passed.end());
  return true;
}

bool EventClock::observe_stamps(const EventTimes& times) {
  std::map<StampId, Trace::Time> passed;
  std::erase_if(pending_stamps_, [&](const Pending<StampId>& stamp) {
    if (!has_passed(stamp.event, "the work before a stamp")) return false;
    passed.emplace(stamp.id, times.of(stamp.event));
    return true;
  });
  if (passed.empty()) return false;
  const std::lock_guard lock(mutex_);
  passed_stamps_.merge(passed);
  return true;
}

}  // namespace tensor_pager::cuda
