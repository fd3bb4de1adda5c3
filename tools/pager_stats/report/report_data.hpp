// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "report/recording.hpp"
#include "stats_file.hpp"

namespace tensor_pager::pager_stats {

/// Throws StatsError, which says what differs, if the statistics and the recording are not of the
/// same run.
void require_same_run(const std::vector<Field>& stats, const Recording& recording);

/// Everything that the report's page shows. Times are in nanoseconds where they come in lists, and
/// lists of begins are differences to the one before, which keeps the page small.
nlohmann::ordered_json report_data(const std::vector<Field>& stats, const Recording& recording);

}  // namespace tensor_pager::pager_stats
