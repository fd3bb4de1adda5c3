// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "stats_file.hpp"

namespace tensor_pager::pager_stats {

/// Every number in the text format of Prometheus, under names that suit OpenMetrics as well: base
/// units (seconds, bytes) as suffixes, counters end in _total. With the model and the device as
/// labels, and the place in `sources` if there are several.
std::string prometheus(std::span<const std::vector<Field>> sources);

}  // namespace tensor_pager::pager_stats
