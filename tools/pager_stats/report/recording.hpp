// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "pager/plan.hpp"
#include "pager/policy_options.hpp"
#include "pager/trace.hpp"
#include "pager/types.hpp"

namespace tensor_pager::pager_stats {

/// The trace file cannot be used. The message is one line that names it.
class TraceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A copy. Times here and below are in seconds since the trace began.
struct RecordedCopy {
  double begin = 0;
  double end = 0;
  PageRun pages;
  Bytes bytes;  ///< less than the pages have if the copy failed
};

/// A step of a stream, or its wait for pages.
struct RecordedSpan {
  double begin = 0;
  double end = 0;
  std::uint32_t stream = 0;
  std::string name;
  std::optional<Trace::PlanPosition> position;  ///< nothing for reads outside of plans
};

struct RecordedPlan {
  double set = 0;
  AccessPlan plan;
};

struct ResidencyChange {
  double at = 0;
  PageRun pages;
  bool arrived = false;
};

/// What a trace file says. Spans are in the order in which they began, everything else in the order
/// in which it happened. Pages, plans and steps that it names exist.
struct Recording {
  PageLayout layout;
  PolicyOptions policy;
  std::uint32_t pages_per_copy = 1;
  std::vector<NamedRange> parts;
  std::vector<RecordedPlan> plans;
  std::vector<std::pair<double, std::uint32_t>> frames;  ///< from then on, so many
  std::vector<ResidencyChange> changes;
  std::vector<RecordedCopy> copies;
  std::vector<RecordedSpan> steps;
  std::vector<RecordedSpan> stalls;
  double mapping = 0;  ///< seconds that the pager's thread spent mapping and unmapping

  /// Frames that there were at that time.
  std::uint32_t frames_at(double time) const;
  /// When the last event ended.
  double end() const;
};

/// Reads a file that Trace::write wrote. Throws TraceError if it cannot be read, or is another
/// program's or another version's.
Recording read_recording(const std::filesystem::path& path);

}  // namespace tensor_pager::pager_stats
