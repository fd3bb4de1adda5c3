// SPDX-License-Identifier: Apache-2.0
#include "stats_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>

#include "pager/system_error.hpp"

namespace tensor_pager::pager_stats {
namespace {

using Json = nlohmann::ordered_json;

// Those of every version.
constexpr std::array<const char*, 9> kSections = {"model", "device", "arena", "memory", "pages",
                                                  "bytes", "time",   "rates", "bound"};

Json parse(const std::filesystem::path& path) {
  std::ifstream in(path);
  const bool folder = std::filesystem::is_directory(path);
  if (!in || folder) {
    throw StatsError(fmt::format("cannot open {}: {}; give what qwen_prefill --stats FILE wrote",
                                 path.string(), cause_of(folder ? EISDIR : errno)));
  }
  Json json = Json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) {
    throw StatsError(fmt::format(
        "{} is not a statistics file: it is not JSON; write one with qwen_prefill --stats FILE",
        path.string()));
  }
  return json;
}

}  // namespace

std::vector<Field> read_stats(const std::filesystem::path& path) {
  const Json json = parse(path);
  for (const char* section : kSections) {
    if (!json.contains(section) || !json[section].is_object()) {
      throw StatsError(fmt::format(
          "{} has no section \"{}\": it is another program's, or another version's; write it again",
          path.string(), section));
    }
  }
  std::vector<Field> fields;
  for (const auto& [section, members] : json.items()) {
    if (!members.is_object()) continue;
    for (const auto& [name, value] : members.items()) {
      if (value.is_number() || value.is_string()) fields.push_back({section, name, value});
    }
  }
  return fields;
}

const Field* find(const std::vector<Field>& fields, const std::string& section,
                  const std::string& name) {
  const auto found = std::ranges::find_if(
      fields, [&](const Field& f) { return f.section == section && f.name == name; });
  return found == fields.end() ? nullptr : &*found;
}

double number(const std::vector<Field>& fields, const std::string& section,
              const std::string& name) {
  const Field* const field = find(fields, section, name);
  if (field == nullptr || !field->number()) {
    throw StatsError(fmt::format(
        "the file has no number {}.{}: it is another version's; write it again", section, name));
  }
  return field->value.get<double>();
}

std::string text(const std::vector<Field>& fields, const std::string& section,
                 const std::string& name) {
  const Field* const field = find(fields, section, name);
  return field == nullptr || field->number() ? "" : field->value.get<std::string>();
}

}  // namespace tensor_pager::pager_stats
