// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pager/export.hpp"
#include "pager/plan.hpp"
#include "pager/policy_options.hpp"
#include "pager/types.hpp"

namespace tensor_pager {

/// Records what one pager and its device do when, for the Chrome trace format (chrome://tracing,
/// Perfetto) and for tools that compute from it: the file says what the image consists of, which
/// plans were set and which pages came and went. Thread-safe.
class TENSOR_PAGER_EXPORT Trace {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;

  /// Rows of the timeline: the steps and stalls of each stream, the copy engine, and what the
  /// pager's thread does.
  enum class Track : std::uint8_t { steps, stalls, copies, pager };

  /// A step of one of the plans that were set; the first of them is plan 0.
  struct PlanPosition {
    std::uint32_t plan = 0;
    StepIndex step{};
  };

  struct Span {
    Track track{};
    Time begin{};
    Time end{};
    std::string name{};
    std::string detail{};      ///< shown with the span: "pages 12 to 15", say
    std::uint32_t stream = 0;  ///< of steps and stalls: whose; counted from 0
    std::uint64_t copy = 0;    ///< of copies: a number of its own, from 1 on
    PageRun pages{};           ///< of copies
    Bytes bytes{};             ///< of copies: what was copied; less than the pages if it failed
    std::optional<PlanPosition> position{};  ///< of steps and stalls that belong to a plan
    /// Of steps: the copies that brought in what it reads. They are shown as arrows.
    std::vector<std::uint64_t> copies{};
  };

  Trace() : start_(Clock::now()) {}

  void add(Span span);
  /// What is paged, and how.
  struct Setting {
    PageLayout layout{};
    PolicyOptions policy{};
    std::uint32_t pages_per_copy = 1;
  };
  void describe(const Setting& setting, std::span<const NamedRange> parts);
  void plan_set(Time at, const AccessPlan& plan);
  /// From `at` on, there are that many frames.
  void frames(Time at, std::uint32_t count);
  /// Pages became resident, or are not resident any more. Changes are recorded in their order.
  void arrived(Time at, PageRun pages);
  void evicted(Time at, std::span<const PageIndex> pages);
  /// From `at` on, this much is resident.
  void resident(Time at, Bytes bytes);
  /// Begin and end of every span of a track so far, in the order in which they were recorded.
  std::vector<std::pair<Time, Time>> spans(Track track) const;
  /// Writes everything recorded so far as a Chrome trace, in JSON, times in microseconds since
  /// construction. Spans of one row are nested or follow each other: those that would overlap go to
  /// further rows. Counters show the resident bytes and the rate of the link. What viewers have no
  /// events for is in the object "tensor_pager" beside the events (docs/report.md).
  void write(std::ostream& out) const;

 private:
  struct PlanSet {
    Time at{};
    AccessPlan plan;
  };
  struct ResidencyChange {
    Time at{};
    PageRun pages;
    bool arrived = false;
  };
  class Section;

  void write_events(std::ostream& out) const;

  Time start_;
  mutable std::mutex mutex_;
  std::vector<Span> spans_;
  std::vector<std::pair<Time, Bytes>> resident_;
  Setting setting_;
  std::vector<NamedRange> parts_;
  std::vector<PlanSet> plans_;
  std::vector<std::pair<Time, std::uint32_t>> frames_;
  std::vector<ResidencyChange> changes_;
};

}  // namespace tensor_pager
