// SPDX-License-Identifier: Apache-2.0
#include "command_line/man_page.hpp"

#include <fmt/format.h>

#include <cctype>
#include <map>
#include <string_view>

#include "command_line/option_text.hpp"
#include "pager/version.hpp"

namespace tensor_pager::command_line {
namespace {

// As roff text that stands anywhere in a line: what is typed must be found and copied as ASCII.
std::string literal(std::string_view text) {
  static const std::map<char, std::string_view> escapes = {
      {'\\', "\\e"},  {'-', "\\-"},   {'\'', "\\(aq"}, {'`', "\\(ga"},
      {'^', "\\(ha"}, {'~', "\\(ti"}, {'"', "\\(dq"},  {'\n', " "}};
  std::string out;
  for (const char c : text) {
    const auto escape = escapes.find(c);
    if (escape == escapes.end()) {
      out += c;
    } else {
      out += escape->second;
    }
  }
  return out;
}

// A line of its own, which a point would make a request.
std::string line(std::string_view text) {
  return (text.starts_with('.') ? "\\&" : "") + literal(text) + "\n";
}

std::string bold(std::string_view text) {
  return "\\fB" + literal(text) + "\\fR";
}

std::string italic(std::string_view text) {
  return "\\fI" + literal(text) + "\\fR";
}

std::string heading(std::string_view kind, std::string_view text) {
  return fmt::format(".{} \"{}\"\n", kind, literal(text));
}

// "SIZE|auto": words to be typed are bold, what stands for something is italic.
std::string value(std::string_view text) {
  std::string out;
  std::size_t begin = 0;
  while (begin < text.size()) {
    std::size_t end = begin;
    while (end < text.size() && text[end] != '|' && text[end] != ',') ++end;
    const std::string_view word = text.substr(begin, end - begin);
    const bool typed = !word.empty() && std::islower(static_cast<unsigned char>(word[0])) != 0;
    out += typed ? bold(word) : italic(word);
    begin = end;
    while (begin < text.size() && (text[begin] == '|' || text[begin] == ',')) {
      out += text[begin++];
    }
  }
  return out;
}

std::string tag(const OptionShape& option) {
  if (option.positional) return italic(option.names.front());
  std::string out;
  for (const std::string& name : option.names) out += (out.empty() ? "" : ", ") + bold(name);
  const std::string taken = value_text(option);
  return taken.empty() ? out : out + " " + value(taken);
}

std::string summary(const ProgramDescription& program) {
  std::string text = program.purpose.substr(0, program.purpose.find_first_of(".:,"));
  text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  return text;
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string options_section(const std::vector<OptionShape>& options) {
  std::string text = heading("SH", "OPTIONS");
  for (const std::string& group : shown_groups(options)) {
    text += heading("SS", group);
    for (const OptionShape& option : options) {
      if (option.group != group) continue;
      text += ".TP\n" + tag(option) + "\n" + line(description_text(option));
    }
  }
  return text;
}

std::string examples_section(const ProgramDescription& program) {
  std::string text = heading("SH", "EXAMPLES") + ".nf\n";
  for (const std::string& example : program.examples) text += line(program.name + " " + example);
  return text + ".fi\n";
}

}  // namespace

std::string man_page(const ProgramDescription& program, const std::vector<OptionShape>& options) {
  std::string text = fmt::format(".TH {} 1 \"\" \"tensor\\-pager {}\" \"User Commands\"\n",
                                 upper(program.name), version());
  text += ".nh\n.ad l\n";  // options are not hyphenated, nor spread out
  text += heading("SH", "NAME") + program.name + " \\- " + line(summary(program));
  text += heading("SH", "SYNOPSIS") + bold(program.name) + " " + line(program.usage);
  text += heading("SH", "DESCRIPTION") + line(program.purpose);
  text += options_section(options);
  text += heading("SH", "EXIT STATUS") + line(exit_status_text());
  return text + examples_section(program);
}

}  // namespace tensor_pager::command_line
