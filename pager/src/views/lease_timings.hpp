// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pager/device.hpp"
#include "pager/ids.hpp"
#include "pager/trace.hpp"

namespace tensor_pager {

/// What a lease is called where it is shown.
struct LeaseLabel {
  std::string name{};
  std::optional<Trace::PlanPosition> position{};
};

/// When leases' streams asked for their pages, had them, and were done with them, by stamps in the
/// streams. Steps and stalls go to the trace, if there is one; without it only leases whose pages
/// were not there are timed. Not thread-safe.
class LeaseTimings {
 public:
  /// Both outlive it; the trace may be nullptr.
  LeaseTimings(Device& device, Trace* trace) : device_(device), trace_(trace) {}

  /// The lease's stream, which the core calls `queue`, gets to where it needs the pages. `late`:
  /// not all of them are there.
  void asked(LeaseId lease, const LeaseLabel& label, StreamId queue, StreamRef stream, bool late);
  /// The copies that brought in what it reads, for the trace.
  void brought_in(LeaseId lease, std::vector<std::uint64_t> copies);
  /// Work that is queued from now on reads the pages.
  void granted(LeaseId lease, StreamRef stream);
  /// Whether every lease's end wants a stamp of its own.
  bool traced() const { return trace_ != nullptr; }
  /// A stamp after that work, for `ended`; nothing if nobody wants to know.
  std::optional<StampId> stamp_end(StreamRef stream) noexcept;
  void ended(LeaseId lease, std::optional<StampId> end);

  /// Reads the stamps that streams have passed.
  void observe() noexcept;
  /// Whether every lease that has ended was read.
  bool idle() const { return ended_.empty(); }
  /// Time for which streams had nothing to do but wait, of leases that were read.
  std::chrono::nanoseconds stalled() const { return stalled_; }

 private:
  struct Timing {
    LeaseLabel label;
    bool late = false;
    std::uint32_t stream = 0;
    std::vector<std::uint64_t> copies{};
    std::optional<StampId> asked{};
    std::optional<StampId> granted{};
    std::optional<StampId> ended{};
  };

  std::optional<StampId> stamp(StreamRef stream) noexcept;
  bool read(const Timing& timing);
  void add_span(Trace::Track track, Trace::Time begin, Trace::Time end, const Timing& timing);

  Device& device_;
  Trace* const trace_;
  std::map<LeaseId, Timing> held_;
  std::deque<Timing> ended_;                   // while their streams go on
  std::map<StreamId, std::uint32_t> streams_;  // in the order in which they came
  std::chrono::nanoseconds stalled_{};
};

}  // namespace tensor_pager
