// SPDX-License-Identifier: Apache-2.0
#include "command_line/help.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <string_view>

namespace tensor_pager::command_line {
namespace {

constexpr std::size_t kColumn = 30;  // where descriptions begin
constexpr std::size_t kWidth = 100;
constexpr std::size_t kLongestForm = 24;  // beyond it choices move to the description

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  return fmt::format("{}", fmt::join(parts, between));
}

bool shows_choices(const OptionShape& option) {
  return !option.choices.empty() && joined(option.choices, "|").size() <= kLongestForm;
}

// "-m, --model FILE", "--device auto|cuda|host"
std::string form(const OptionShape& option) {
  std::string names = joined(option.names, ", ");
  if (option.positional || option.placeholder.empty()) return names;
  // A type name that has words in it ("SIZE|auto") says all of it.
  const bool words = option.placeholder.find('|') != std::string::npos;
  if (words || !shows_choices(option)) return names + " " + option.placeholder;
  return names + " " + joined(option.choices, "|") + (option.takes_list ? ",..." : "");
}

std::string description(const OptionShape& option) {
  std::string text = option.description;
  const bool all = option.positional || !shows_choices(option);
  if (all && option.choices.size() > 1) text += ": " + joined(option.choices, ", ");
  if (!option.default_value.empty()) text += " (default: " + option.default_value + ")";
  if (option.required && !option.positional) text += " (required)";
  return text;
}

// The form, and beside it or below it the description in lines that fit.
std::string entry(const OptionShape& option) {
  std::string line = "  " + form(option);
  std::string out;
  if (line.size() + 2 > kColumn) {
    out = line + "\n";
    line.clear();
  }
  line.resize(kColumn, ' ');
  std::istringstream words(description(option));
  bool first = true;
  for (std::string word; words >> word; first = false) {
    if (!first && line.size() + 1 + word.size() > kWidth) {
      out += line + "\n";
      line.assign(kColumn, ' ');
      first = true;
    }
    line += (first ? "" : " ") + word;
  }
  return out + line + "\n";
}

}  // namespace

std::string help_text(const ProgramDescription& program, const std::vector<OptionShape>& options) {
  std::string text =
      fmt::format("{}\n\nUsage: {} {}\n", program.purpose, program.name, program.usage);
  std::vector<std::string> groups;
  for (const OptionShape& option : options) {
    if (std::ranges::find(groups, option.group) == groups.end()) groups.push_back(option.group);
  }
  // Help itself is declared first, and is what readers of help need least.
  std::rotate(groups.begin(), groups.begin() + 1, groups.end());
  for (const std::string& group : groups) {
    text += "\n" + group + ":\n";
    for (const OptionShape& option : options) {
      if (option.group == group) text += entry(option);
    }
  }
  text +=
      "\nExit status: 0 done; 1 failed; 2 wrong usage; 130 interrupted. Failures are one line on "
      "stderr.\n";
  text += "\nExamples:\n";
  for (const std::string& example : program.examples) {
    text += fmt::format("  {} {}\n", program.name, example);
  }
  return text;
}

}  // namespace tensor_pager::command_line
