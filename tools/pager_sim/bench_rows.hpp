// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

namespace tensor_pager::pager_sim {

/// What pager_bench -o json or jsonl wrote: an array of rows, or a row a line. Throws qwen::Error
/// if the file cannot be read, or is no JSON.
nlohmann::ordered_json bench_rows(const std::filesystem::path& path);

/// `read` of every row. Throws qwen::Error, which says to measure again, for rows that lack a field
/// which it asks for, or have a value that cannot be.
void for_each_row(const std::filesystem::path& path,
                  const std::function<void(const nlohmann::ordered_json& row)>& read);

}  // namespace tensor_pager::pager_sim
