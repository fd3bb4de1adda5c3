// SPDX-License-Identifier: Apache-2.0
#include "qwen/host_memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "pager/system_error.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMemory = "/proc/meminfo";

// The number in a file that holds nothing else; nothing for "max" or a file that is not there.
std::optional<std::uint64_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  std::uint64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

// The number behind `key` in a file of "key value" lines.
std::optional<std::uint64_t> value_of(const fs::path& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t value = 0;
    if (words >> name >> value && name == key) return value;
  }
  return std::nullopt;
}

// What one control group leaves: limit - usage + file cache that it would drop first.
std::uint64_t left_by(const fs::path& group, const char* limit_file, const char* usage_file,
                      const std::string& cache_key) {
  const auto limit = number_in(group / limit_file);
  if (!limit) return UINT64_MAX;
  const std::uint64_t usage = number_in(group / usage_file).value_or(0);
  const std::uint64_t cache = value_of(group / "memory.stat", cache_key).value_or(0);
  const std::uint64_t held = usage - std::min(usage, cache);
  return *limit - std::min(*limit, held);
}

// The least that a group and the groups above it leave.
template <class Left>
std::uint64_t left_by_ancestors(const fs::path& root, fs::path group, const Left& left) {
  std::uint64_t least = left(root);
  for (group = group.relative_path(); !group.empty(); group = group.parent_path()) {
    least = std::min(least, left(root / group));
  }
  return least;
}

std::uint64_t left_by_control_groups() {
  std::uint64_t least = UINT64_MAX;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:path
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path path = line.substr(second + 1);
    if (controllers.empty()) {
      least = std::min(least, left_by_ancestors("/sys/fs/cgroup", path, [](const fs::path& group) {
                         return left_by(group, "memory.max", "memory.current", "inactive_file");
                       }));
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      least = std::min(least,
                       left_by_ancestors("/sys/fs/cgroup/memory", path, [](const fs::path& group) {
                         return left_by(group, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                        "total_inactive_file");
                       }));
    }
  }
  return least;
}

}  // namespace

Bytes available_host_memory() {
  if (!std::ifstream(kMemory)) {
    throw Error(fmt::format("{}: cannot open: {}; give the memory to use with --vram", kMemory,
                            cause_of(errno)));
  }
  const auto available = value_of(kMemory, "MemAvailable:");
  if (!available) {
    throw Error("/proc/meminfo has no MemAvailable: give the memory to use with --vram");
  }
  return {std::min(*available * 1024, left_by_control_groups())};
}

}  // namespace tensor_pager::qwen
