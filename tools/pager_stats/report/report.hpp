// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "pager/types.hpp"

namespace tensor_pager::pager_stats {

/// One self-contained page that shows what report_data returns.
std::string report_page(const nlohmann::ordered_json& data);

struct WrittenReport {
  Bytes size;
  std::string answer;  ///< whether another budget would help, in a sentence or two
};

/// Reads both files and writes the page. Throws StatsError, TraceError or output::OutputError, with
/// one line that names the file that is to blame.
WrittenReport write_report(const std::filesystem::path& stats, const std::filesystem::path& trace,
                           const std::filesystem::path& out);

}  // namespace tensor_pager::pager_stats
