// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "pager/types.hpp"
#include "report/recording.hpp"

namespace tensor_pager::pager_stats {

/// Neighbouring pages that were resident from the same time to the same time, in seconds.
struct Stay {
  PageRun pages;
  double from = 0;
  double to = 0;
};

/// When which pages were resident, in the order in which they came. What still is stays until the
/// recording's end. Throws TraceError if a page comes that is there, or goes that is not.
std::vector<Stay> stays(const Recording& recording);

}  // namespace tensor_pager::pager_stats
