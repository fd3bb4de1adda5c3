#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace tensor_pager::pager_stats {

/// One self-contained page that shows what report_data returns.
std::string report_page(const nlohmann::ordered_json& data);

/// Reads both files and writes the page. Throws StatsError or TraceError, with one line that names
/// the file that is to blame.
void write_report(const std::filesystem::path& stats, const std::filesystem::path& trace,
                  const std::filesystem::path& out);

}  // namespace tensor_pager::pager_stats
