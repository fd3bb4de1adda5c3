// SPDX-License-Identifier: Apache-2.0
// The manual page that each program prints, held against its --help and against what reads pages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "programs.hpp"

namespace tensor_pager::tests {
namespace {

using testing::HasSubstr;
using testing::Not;
using Words = std::vector<std::string>;

constexpr std::string_view kMan = "/usr/bin/man";
constexpr std::string_view kLexgrog = "/usr/bin/lexgrog";

// What a reader sees of roff text; an escape that is not known stays, and differs from help.
std::string shown(std::string text) {
  static const std::map<std::string, std::string> kEscapes = {
      {"\\-", "-"},   {"\\&", ""},    {"\\fB", ""},   {"\\fI", ""},   {"\\fR", ""},
      {"\\(aq", "'"}, {"\\(ga", "`"}, {"\\(ha", "^"}, {"\\(ti", "~"}, {"\\(dq", "\""}};
  for (const auto& [escape, meaning] : kEscapes) {
    for (std::size_t at = text.find(escape); at != std::string::npos; at = text.find(escape, at)) {
      text.replace(at, escape.size(), meaning);
    }
  }
  return text;
}

Words words_of(const std::string& text) {
  std::istringstream in(text);
  Words words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

// The words of a page's section, the titles of its groups included.
Words section(const std::string& page, const std::string& title) {
  std::istringstream in(page);
  Words words;
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(".SH ")) inside = line == ".SH \"" + title + "\"";
    if (!inside) continue;
    if (line.starts_with(".SS \"")) line = line.substr(5, line.size() - 6);
    if (line.starts_with('.')) continue;
    const Words more = words_of(shown(line));
    words.insert(words.end(), more.begin(), more.end());
  }
  return words;
}

// The words of help from one place to another, without the colons of groups.
Words help_words(const std::string& help, const std::string& begin, const std::string& end) {
  const std::size_t from = help.find(begin) + begin.size();
  std::istringstream in(help.substr(from, help.find(end, from) - from));
  Words words;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(' ') && line.ends_with(':')) line.pop_back();
    const Words more = words_of(line);
    words.insert(words.end(), more.begin(), more.end());
  }
  return words;
}

class ManPage : public testing::TestWithParam<Program> {
 protected:
  static std::string print(const std::string& option) {
    const ProcessResult result = run_process(GetParam().path, {option});
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  }
};

TEST_P(ManPage, SaysWhatHelpSays) {
  const std::string help = print("--help");
  const std::string page = print("--man-page");
  EXPECT_EQ(section(page, "DESCRIPTION"), help_words(help, "", "\n\nUsage: "));
  EXPECT_EQ(section(page, "SYNOPSIS"), help_words(help, "\nUsage: ", "\n\n"));
  const std::string usage = "\nUsage: ";
  const std::size_t options = help.find("\n\n", help.find(usage));
  EXPECT_EQ(section(page, "OPTIONS"), help_words(help.substr(options), "\n\n", "\nExit status: "));
  EXPECT_EQ(section(page, "EXIT STATUS"), help_words(help, "\nExit status: ", "\n\nExamples:"));
  EXPECT_EQ(section(page, "EXAMPLES"), help_words(help, "\nExamples:\n", "\n\n\n"));
}

TEST_P(ManPage, IsReadWithoutWarnings) {
  if (!std::filesystem::exists(kMan)) GTEST_SKIP() << "man is not installed";
  TemporaryDirectory directory;
  const std::string file = directory.write(GetParam().name + ".1", print("--man-page"));
  const ProcessResult read = run_process(
      "/bin/sh",
      {"-c", "MANWIDTH=80 LC_ALL=C.UTF-8 \"$0\" --warnings -l \"$1\"", std::string(kMan), file});
  EXPECT_EQ(read.status, 0);
  EXPECT_EQ(read.err, "");
  for (const std::string& name : listed_names(print("--help"))) {
    EXPECT_THAT(read.out, HasSubstr(name));
  }
}

TEST_P(ManPage, IsFoundByWhatItIs) {
  if (!std::filesystem::exists(kLexgrog)) GTEST_SKIP() << "lexgrog is not installed";
  TemporaryDirectory directory;
  const std::string file = directory.write(GetParam().name + ".1", print("--man-page"));
  const ProcessResult parsed = run_process(std::string(kLexgrog), {file});
  EXPECT_EQ(parsed.status, 0) << parsed.out << parsed.err;
  EXPECT_THAT(parsed.out, HasSubstr(": \"" + GetParam().name + " - "));
  EXPECT_LE(parsed.out.size() - file.size(), 120U) << parsed.out;  // a line of apropos
}

INSTANTIATE_TEST_SUITE_P(Programs, ManPage, testing::ValuesIn(programs()),
                         [](const auto& program) { return program.param.name; });

}  // namespace
}  // namespace tensor_pager::tests
