// SPDX-License-Identifier: Apache-2.0
#include "command_line/option_shape.hpp"

#include <algorithm>
#include <cctype>
#include <string_view>

namespace tensor_pager::command_line {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// A vector's default is written "[1,2]".
std::string without_brackets(std::string text) {
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  return text;
}

// CLI11 gives type name and validators as one: "KIND:{auto,cuda,host}", "N:POSITIVE".
void read_type(std::string_view type, OptionShape& shape) {
  constexpr std::string_view kList = ",...";
  const std::size_t name_end = std::min(type.find(':'), type.size());
  shape.placeholder = type.substr(0, name_end);
  std::string_view name = type.substr(0, name_end);
  shape.takes_list = name.ends_with(kList);
  if (shape.takes_list) name.remove_suffix(kList.size());
  for (const std::string& alternative : split(name, '|')) {
    if (alternative == "FILE") shape.takes_file = true;
    if (std::islower(static_cast<unsigned char>(alternative.front())) != 0) {
      shape.choices.push_back(alternative);
    }
  }
  const std::size_t begin = type.find('{', name_end);
  const std::size_t end = type.find('}', name_end);
  if (begin == std::string_view::npos || end == std::string_view::npos) return;
  shape.choices = split(type.substr(begin + 1, end - begin - 1), ',');
}

OptionShape shape_of(const CLI::Option& option, const Aliases& aliases) {
  OptionShape shape;
  shape.positional = option.get_positional();
  if (shape.positional) {
    shape.names = {option.get_name(true, false)};
  } else {
    for (const std::string& name : option.get_snames()) shape.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) shape.names.push_back("--" + name);
    const auto further = aliases.find(shape.names.back());
    if (further != aliases.end()) {
      shape.names.insert(shape.names.begin(), further->second.begin(), further->second.end());
    }
  }
  shape.group = option.get_group();
  shape.description = option.get_description();
  shape.required = option.get_required();
  shape.takes_value = option.get_items_expected_max() > 0;
  if (!shape.takes_value) return shape;
  shape.default_value = without_brackets(option.get_default_str());
  read_type(option.get_type_name(), shape);
  return shape;
}

}  // namespace

std::vector<OptionShape> option_shapes(const CLI::App& app, const Aliases& aliases) {
  std::vector<OptionShape> shapes;
  for (const CLI::Option* option : app.get_options()) shapes.push_back(shape_of(*option, aliases));
  return shapes;
}

}  // namespace tensor_pager::command_line
