// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
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

/// More than any machine has.
inline constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 50;

/// A row's number of tokens, bytes and the like. Throws std::invalid_argument, which names field
/// and value, for one that is not whole or not from 1 to `most`.
std::uint64_t count_in(const nlohmann::ordered_json& row, const char* field, std::uint64_t most);
/// Of tokens, or of what takes part in a pass.
std::uint32_t count_of_tokens(const nlohmann::ordered_json& row, const char* field);
/// Likewise for a rate: any positive number.
double rate_in(const nlohmann::ordered_json& row, const char* field);

}  // namespace tensor_pager::pager_sim
