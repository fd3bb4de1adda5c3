// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "prediction/prediction.hpp"
#include "report/recording.hpp"

namespace tensor_pager::pager_stats {

/// How often a plan was run, and how long its steps took.
struct MeasuredPlan {
  std::uint32_t passes = 0;
  std::uint32_t steps_measured = 0;  ///< steps of the plan that were run at all
  /// By step: from its beginning to the next step's, or to that step's wait for pages; the mean of
  /// its runs. A step that was not run has the mean of the others.
  std::vector<double> step_seconds;
  double first_pass = 0;     ///< seconds from the first event of the first pass to its end
  std::uint32_t frames = 0;  ///< that there were when it was first run
};

MeasuredPlan measure(const Recording& recording, std::uint32_t plan);

/// What a plan's passes would take with another arena.
struct WhatIf {
  struct Point {
    std::uint32_t frames = 0;
    prediction::Prediction cold;  ///< the first pass, nothing resident
    prediction::Prediction warm;  ///< a later pass, the mean of several
  };
  std::uint32_t plan = 0;
  MeasuredPlan measured;
  std::vector<Point> points{};  ///< by frames
  std::size_t own = 0;          ///< the point of the run's arena, or of all that the plan reads
  std::string why_not{};        ///< why there are no points
};

/// Predicts the plan's passes for arenas from the smallest that can run it to one that holds all
/// that it reads. `points`: how many sizes, the run's own aside.
WhatIf what_if(const Recording& recording, std::uint32_t plan,
               const prediction::MachineModel& machine, std::uint32_t points);

}  // namespace tensor_pager::pager_stats
