#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace tensor_pager {

/// Records what happened when, for the Chrome trace format (chrome://tracing, Perfetto).
/// Thread-safe.
class Trace {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;

  /// One row of the timeline. Spans of one track do not overlap, or are nested.
  enum class Track : std::uint8_t { steps, stalls, copies };

  Trace() : start_(Clock::now()) {}

  /// `detail` is shown with the span: "pages 12-15", say.
  void span(Track track, std::string name, Time begin, Time end, std::string detail = {});
  /// Begin and end of every span of a track so far, in the order in which they were recorded.
  std::vector<std::pair<Time, Time>> spans(Track track) const;
  /// Writes everything recorded so far as a Chrome trace, in JSON, times in microseconds since
  /// construction.
  void write(std::ostream& out) const;

 private:
  struct Span {
    Track track;
    Time begin;
    Time end;
    std::string name;
    std::string detail;
  };

  Time start_;
  mutable std::mutex mutex_;
  std::vector<Span> spans_;
};

}  // namespace tensor_pager
