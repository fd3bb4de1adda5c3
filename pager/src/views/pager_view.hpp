// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/core.hpp"
#include "pager/device.hpp"
#include "pager/pager.hpp"
#include "pager/trace.hpp"
#include "views/lease_timings.hpp"
#include "views/publication.hpp"

namespace tensor_pager {

/// What others see of a pager: the trace, if there is one, and what other processes may read, if
/// that is wanted. It is told what happens to pages and plans, in the order in which the core
/// decided it. Not thread-safe, but for `remapped`.
class PagerView {
 public:
  PagerView(const PagerOptions& options, const CoreOptions& core, const DeviceInfo& device);

  /// Whether there is a trace. Where there is none, nothing need be told of it.
  bool traced() const { return trace_ != nullptr; }

  void plan_set(const AccessPlan& plan);
  /// A step is acquired: it is where the pager is.
  void reached(StepIndex step);
  LeaseLabel label(StepIndex step) const;

  /// Commands are about to be carried out. `resident` is what the core says by then.
  void commanded(const Commands& commands, std::uint32_t resident);
  /// There are no commands for the time being.
  void unchanged(std::uint32_t resident) { commanded({}, resident); }
  void remapped(Trace::Time begin, std::size_t commands) const;
  void copy_started(CopyId copy, PageRun pages);
  void copy_ended(PageRun pages, bool well);
  /// The copies that brought in these pages and were not asked for before: each belongs to the
  /// first lease that reads it.
  std::vector<std::uint64_t> take_copies(std::span<const PageIndex> pages);

  /// The arena has that many frames from now on.
  void frames(std::uint32_t count) const;
  /// Counters, for other processes. Stores some thirty words; no lock, no call.
  void publish(const Statistics& statistics);
  bool published() const { return publication_.has_value(); }

 private:
  Trace* const trace_;
  const Bytes page_;
  std::optional<Publication> publication_;
  std::vector<std::string> step_names_;
  std::uint32_t plans_ = 0;                               // that were set so far
  StepIndex step_;                                        // acquired last
  std::uint64_t work_ = 0;                                // of a pass of the plan
  std::uint64_t passes_ = 0;                              // of the plan, begun so far
  std::vector<PageRun> arrived_;                          // that the trace does not know of yet
  std::unordered_map<std::uint32_t, CopyId> brought_in_;  // by page, until its first use
};

}  // namespace tensor_pager
