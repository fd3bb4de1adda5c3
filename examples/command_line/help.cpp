// SPDX-License-Identifier: Apache-2.0
#include "command_line/help.hpp"

#include <fmt/format.h>

#include <sstream>

#include "command_line/option_text.hpp"

namespace tensor_pager::command_line {
namespace {

constexpr std::size_t kColumn = 30;  // where descriptions begin
constexpr std::size_t kWidth = 100;

// "-m, --model FILE", "--device auto|cuda|host"
std::string form(const OptionShape& option) {
  const std::string names = fmt::format("{}", fmt::join(option.names, ", "));
  const std::string value = value_text(option);
  return value.empty() ? names : names + " " + value;
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
  std::istringstream words(description_text(option));
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
  for (const std::string& group : shown_groups(options)) {
    text += "\n" + group + ":\n";
    for (const OptionShape& option : options) {
      if (option.group == group) text += entry(option);
    }
  }
  text += "\nExit status: " + exit_status_text() + "\n";
  text += "\nExamples:\n";
  for (const std::string& example : program.examples) {
    text += fmt::format("  {} {}\n", program.name, example);
  }
  return text;
}

}  // namespace tensor_pager::command_line
