#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "pager/types.hpp"

namespace tensor_pager {

/// Records what happened when, for the Chrome trace format (chrome://tracing, Perfetto).
/// Thread-safe.
class Trace {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;

  /// Rows of the timeline: the steps and stalls of each stream, the copy engine, and what the
  /// pager's thread does.
  enum class Track : std::uint8_t { steps, stalls, copies, pager };

  struct Span {
    Track track{};
    Time begin{};
    Time end{};
    std::string name{};
    std::string detail{};      ///< shown with the span: "pages 12 to 15", say
    std::uint32_t stream = 0;  ///< of steps and stalls: whose; counted from 0
    std::uint64_t copy = 0;    ///< of copies: a number of its own, from 1 on
    Bytes bytes{};             ///< of copies
    /// Of steps: the copies that brought in what it reads. They are shown as arrows.
    std::vector<std::uint64_t> copies{};
  };

  Trace() : start_(Clock::now()) {}

  void add(Span span);
  /// From `at` on, this much is resident.
  void resident(Time at, Bytes bytes);
  /// Begin and end of every span of a track so far, in the order in which they were recorded.
  std::vector<std::pair<Time, Time>> spans(Track track) const;
  /// Writes everything recorded so far as a Chrome trace, in JSON, times in microseconds since
  /// construction. Spans of one row are nested or follow each other: those that would overlap go to
  /// further rows. Counters show the resident bytes and the rate of the link.
  void write(std::ostream& out) const;

 private:
  Time start_;
  mutable std::mutex mutex_;
  std::vector<Span> spans_;
  std::vector<std::pair<Time, Bytes>> resident_;
};

}  // namespace tensor_pager
