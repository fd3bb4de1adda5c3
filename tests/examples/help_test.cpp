// SPDX-License-Identifier: Apache-2.0
// --help of each program, held against its sources and against what the program accepts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "child_process.hpp"
#include "programs.hpp"

namespace tensor_pager::tests {
namespace {

using testing::HasSubstr;
using testing::Not;

class Help : public testing::TestWithParam<Program> {
 protected:
  static ProcessResult run(std::vector<std::string> arguments) {
    return run_process(GetParam().path, arguments);
  }
  static std::string help() { return run({"--help"}).out; }
};

std::string content(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The first string in the call that begins at `at`.
std::string first_string(const std::string& source, std::size_t at) {
  const std::size_t begin = source.find('"', at) + 1;
  return source.substr(begin, source.find('"', begin) - begin);
}

// Names in the declarations of a source file: "-m,--model".
void add_declared(const std::string& source, std::set<std::string>& names) {
  for (const std::string_view call : {"add_option", "add_flag", "add_alias", "set_help_flag"}) {
    for (std::size_t at = source.find(call); at != std::string::npos;
         at = source.find(call, at + 1)) {
      std::istringstream list(first_string(source, at));
      for (std::string name; std::getline(list, name, ',');) {
        if (name.starts_with('-')) names.insert(name);
      }
    }
  }
}

std::set<std::string> declared_names(const std::vector<std::string>& sources) {
  std::set<std::string> names;
  add_declared(content(SOURCES "/examples/command_line/parser.cpp"), names);
  for (const std::filesystem::path source : sources) {
    if (std::filesystem::is_regular_file(source)) {
      add_declared(content(source), names);
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(source)) {
      if (entry.path().extension() == ".cpp") add_declared(content(entry.path()), names);
    }
  }
  return names;
}

TEST_P(Help, ListsWhatTheSourcesDeclare) {
  EXPECT_EQ(listed_names(help()), declared_names(GetParam().sources));
}

TEST_P(Help, ListsOnlyWhatTheProgramAccepts) {
  const auto with = [](std::vector<std::string> more) {
    more.insert(more.begin(), GetParam().required.begin(), GetParam().required.end());
    return run(more);
  };
  EXPECT_THAT(with({"--nonsense"}).err, HasSubstr("not expected: --nonsense"));
  for (const ListedOption& option : listed_options(help())) {
    for (const std::string& name : option.names) {
      // Whatever such a value means, the run fails: no such file, no number, no choice.
      const auto given = option.takes_value ? with({name, "/nonexistent/value"}) : with({name});
      EXPECT_THAT(given.err, Not(HasSubstr("not expected"))) << name;
      if (option.takes_value) {
        EXPECT_EQ(with({name}).status, 2) << name << " without a value";
      }
    }
  }
}

TEST_P(Help, SaysWhatAProgramDoesAndHowItEnds) {
  const ProcessResult result = run({"--help"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(run({"-h"}).out, result.out);
  EXPECT_THAT(result.out, HasSubstr("\nUsage: " + GetParam().name + " "));
  EXPECT_THAT(result.out, HasSubstr("\nExit status: "));
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
}

TEST_P(Help, EndsWithExamplesOfOptionsThatExist) {
  const std::string text = help();
  const std::set<std::string> names = listed_names(text);
  std::istringstream lines(text.substr(std::min(text.find("\nExamples:\n"), text.size())));
  std::string line;
  std::getline(lines, line);
  std::getline(lines, line);
  int examples = 0;
  while (std::getline(lines, line)) {
    EXPECT_TRUE(line.starts_with("  " + GetParam().name + " ")) << line;
    ++examples;
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      if (word.starts_with('-')) {
        EXPECT_THAT(names, testing::Contains(word)) << line;
      }
    }
  }
  EXPECT_GE(examples, 2);
}

TEST_P(Help, VersionIsTheProjects) {
  const ProcessResult result = run({"--version"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, GetParam().name + " (tensor-pager) " PROJECT_VERSION "\n");
}

TEST_P(Help, SaysSoIfItCannotBeWritten) {
  const ProcessResult result =
      run_process("/bin/sh", {"-c", "\"$0\" --help >/dev/full", GetParam().path});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("stdout: cannot write"));
}

// Whoever closed stderr wants no messages, and gets the status that goes with them.
TEST_P(Help, ErrorsThatNobodyReadsKeepTheirStatus) {
  for (const std::string where : {"2>&-", "2>/dev/full", ">&- 2>&- <&-"}) {
    const std::string command = "\"$0\" --completion fish " + where;
    EXPECT_EQ(run_process("/bin/sh", {"-c", command, GetParam().path}).status, 2) << where;
  }
}

TEST_P(Help, TextFromTheCommandLineDrivesNoTerminal) {
  const ProcessResult result = run({"--completion", "red \x1b[31m\nline"});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr(R"(red \x1b[31m line)"));
}

TEST_P(Help, OptionsWithoutAValueTakeNoOther) {
  for (const ListedOption& option : listed_options(help())) {
    if (!option.takes_value) continue;
    const std::string name = *option.names.begin();
    const bool takes_text = option.names.contains("--prompt") || option.names.contains("--system");
    const auto says = [&](std::vector<std::string> arguments) {
      const ProcessResult result = run(std::move(arguments));
      EXPECT_EQ(result.status, 2) << name;
      EXPECT_THAT(result.err, HasSubstr(" has no value; give one"));
    };
    if (!takes_text) says({name, ""});
    if (name.starts_with("--")) says({name + "=", "-q"});
  }
}

TEST_P(Help, AnUnknownOptionIsNamedBeforeOneThatIsMissing) {
  EXPECT_THAT(run({"--nonsense"}).err, HasSubstr("not expected: --nonsense"));
}

INSTANTIATE_TEST_SUITE_P(Programs, Help, testing::ValuesIn(programs()),
                         [](const auto& program) { return program.param.name; });

}  // namespace
}  // namespace tensor_pager::tests
