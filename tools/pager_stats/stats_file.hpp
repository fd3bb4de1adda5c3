// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace tensor_pager::pager_stats {

/// The file cannot be used. The message is one line that names it.
class StatsError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// One field of a statistics file.
struct Field {
  std::string section;
  std::string name;
  nlohmann::ordered_json value;  ///< a number or a text

  bool number() const { return value.is_number(); }
};

/// What qwen_prefill --stats wrote, in the file's order. Throws StatsError if the file cannot be
/// read, is not JSON, or lacks what every such file has.
std::vector<Field> read_stats(const std::filesystem::path& path);

/// The field, or nullptr.
const Field* find(const std::vector<Field>& fields, const std::string& section,
                  const std::string& name);
/// Its value. Throws StatsError if there is none.
double number(const std::vector<Field>& fields, const std::string& section,
              const std::string& name);
/// Its text, or nothing.
std::string text(const std::vector<Field>& fields, const std::string& section,
                 const std::string& name);

}  // namespace tensor_pager::pager_stats
