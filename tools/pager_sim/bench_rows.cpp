// SPDX-License-Identifier: Apache-2.0
#include "bench_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "pager/system_error.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::pager_sim {
namespace {

using Json = nlohmann::ordered_json;

std::string content(const std::filesystem::path& path) {
  std::ifstream in(path);
  const bool folder = std::filesystem::is_directory(path);
  if (!in || folder) {
    throw qwen::Error(fmt::format("cannot open {}: {}; give what pager_bench -o jsonl wrote",
                                  path.string(), cause_of(folder ? EISDIR : errno)));
  }
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

[[noreturn]] void refuse(const std::filesystem::path& path, const std::exception& error) {
  throw qwen::Error(fmt::format("{} is not output of this pager_bench: {}; measure again",
                                path.string(), error.what()));
}

}  // namespace

Json bench_rows(const std::filesystem::path& path) {
  const std::string text = content(path);
  Json rows = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (rows.is_array()) return rows;
  if (rows.is_object()) return Json::array({rows});
  rows = Json::array();
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    rows.push_back(Json::parse(line, nullptr, /*allow_exceptions=*/false));
  }
  if (rows.empty() || std::ranges::any_of(rows, &Json::is_discarded)) {
    throw qwen::Error(fmt::format(
        "{} is not output of pager_bench: write it with pager_bench -o jsonl", path.string()));
  }
  return rows;
}

void for_each_row(const std::filesystem::path& path, const std::function<void(const Json&)>& read) {
  for (const Json& row : bench_rows(path)) {
    try {
      read(row);
    } catch (const Json::exception& error) {
      refuse(path, error);
    } catch (const std::invalid_argument& error) {
      refuse(path, error);
    }
  }
}

std::uint64_t count_in(const Json& row, const char* field, std::uint64_t most) {
  const Json& value = row.at(field);
  const bool whole = value.is_number_unsigned() || (value.is_number_integer() && value >= 0);
  if (whole && value >= 1 && value <= most) return value;
  throw std::invalid_argument(
      fmt::format("{} is {}, but must be from 1 to {}", field, value.dump(), most));
}

std::uint32_t count_of_tokens(const Json& row, const char* field) {
  constexpr std::uint64_t kMost = 1 << 24;
  return static_cast<std::uint32_t>(count_in(row, field, kMost));
}

double rate_in(const Json& row, const char* field) {
  const Json& value = row.at(field);
  if (value.is_number() && std::isfinite(value.get<double>()) && value > 0) return value;
  throw std::invalid_argument(
      fmt::format("{} is {}, but must be more than 0", field, value.dump()));
}

}  // namespace tensor_pager::pager_sim
