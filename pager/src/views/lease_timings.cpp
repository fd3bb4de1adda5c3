// SPDX-License-Identifier: Apache-2.0
#include "views/lease_timings.hpp"

#include <array>
#include <utility>

namespace tensor_pager {

void LeaseTimings::asked(LeaseId lease, const LeaseLabel& label, StreamId queue, StreamRef stream,
                         bool late) {
  if (!late && trace_ == nullptr) return;
  const auto number = static_cast<std::uint32_t>(streams_.size());
  held_[lease] = {.label = label,
                  .late = late,
                  .stream = streams_.emplace(queue, number).first->second,
                  .asked = stamp(stream)};
}

void LeaseTimings::brought_in(LeaseId lease, std::vector<std::uint64_t> copies) {
  const auto timing = held_.find(lease);
  if (timing != held_.end()) timing->second.copies = std::move(copies);
}

void LeaseTimings::granted(LeaseId lease, StreamRef stream) {
  const auto timing = held_.find(lease);
  if (timing != held_.end()) timing->second.granted = stamp(stream);
}

std::optional<StampId> LeaseTimings::stamp_end(StreamRef stream) noexcept {
  if (trace_ == nullptr) return std::nullopt;
  return stamp(stream);
}

/// A time that cannot be taken is no reason to fail a pass.
std::optional<StampId> LeaseTimings::stamp(StreamRef stream) noexcept {
  try {
    return device_.clock().stamp(stream);
  } catch (...) {
    return std::nullopt;
  }
}

void LeaseTimings::ended(LeaseId lease, std::optional<StampId> end) {
  auto timing = held_.extract(lease);
  if (timing.empty()) return;
  timing.mapped().ended = end;
  ended_.push_back(std::move(timing.mapped()));
}

void LeaseTimings::observe() noexcept {
  try {
    while (!ended_.empty() && read(ended_.front())) ended_.pop_front();
  } catch (...) {
    ended_.clear();  // the GPU has failed, which its streams report; times matter no more
  }
}

/// False while the stream has not passed the timing's last stamp.
bool LeaseTimings::read(const Timing& timing) {
  // The last one first: when the stream has passed it, it has passed the others.
  const std::array stamps = {timing.ended, timing.granted, timing.asked};
  std::array<std::optional<Trace::Time>, 3> times;
  for (std::size_t i = 0; i < stamps.size(); ++i) {
    if (!stamps[i]) continue;
    times[i] = device_.clock().take_stamp(*stamps[i]);
    if (!times[i]) return false;
  }
  const auto& [ended, granted, asked] = times;
  if (timing.late && asked && granted) {
    stalled_ += *granted - *asked;
    if (trace_ != nullptr) add_span(Trace::Track::stalls, *asked, *granted, timing);
  }
  if (trace_ != nullptr && granted && ended)
    add_span(Trace::Track::steps, *granted, *ended, timing);
  return true;
}

void LeaseTimings::add_span(Trace::Track track, Trace::Time begin, Trace::Time end,
                            const Timing& timing) {
  Trace::Span span{.track = track,
                   .begin = begin,
                   .end = end,
                   .name = timing.label.name,
                   .stream = timing.stream,
                   .position = timing.label.position};
  if (track == Trace::Track::steps) span.copies = timing.copies;
  trace_->add(std::move(span));
}

}  // namespace tensor_pager
