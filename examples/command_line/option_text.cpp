// SPDX-License-Identifier: Apache-2.0
#include "command_line/option_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace tensor_pager::command_line {
namespace {

constexpr std::size_t kLongestForm = 24;  // beyond it choices move to the description

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  return fmt::format("{}", fmt::join(parts, between));
}

bool shows_choices(const OptionShape& option) {
  return !option.choices.empty() && joined(option.choices, "|").size() <= kLongestForm;
}

}  // namespace

std::string value_text(const OptionShape& option) {
  if (option.positional || option.placeholder.empty()) return {};
  // A type name that has words in it ("SIZE|auto") says all of it.
  const bool words = option.placeholder.find('|') != std::string::npos;
  if (words || !shows_choices(option)) return option.placeholder;
  return joined(option.choices, "|") + (option.takes_list ? ",..." : "");
}

std::string description_text(const OptionShape& option) {
  std::string text = option.description;
  const bool all = option.positional || !shows_choices(option);
  if (all && option.choices.size() > 1) text += ": " + joined(option.choices, ", ");
  if (!option.default_value.empty()) text += " (default: " + option.default_value + ")";
  if (option.required && !option.positional) text += " (required)";
  return text;
}

std::vector<std::string> shown_groups(const std::vector<OptionShape>& options) {
  std::vector<std::string> groups;
  for (const OptionShape& option : options) {
    if (std::ranges::find(groups, option.group) == groups.end()) groups.push_back(option.group);
  }
  // Help itself is declared first, and is what readers of help need least.
  std::rotate(groups.begin(), groups.begin() + 1, groups.end());
  return groups;
}

std::string exit_status_text() {
  return "0 done; 1 failed; 2 wrong usage; 130 interrupted. Failures are one line on stderr.";
}

}  // namespace tensor_pager::command_line
