// SPDX-License-Identifier: Apache-2.0
// --help of each program, held against its sources and against what the program accepts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../docs/source_messages.hpp"
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

// Which programs give the errors of a library; the first that the file's name begins with.
const std::vector<std::pair<std::string, std::set<std::string>>> kSpeakers = {
    {"examples/qwen/src/saved_session.cpp", {"qwen_prefill", "qwen_chat"}},
    {"examples/prediction/machine.cpp", {"pager_sim"}},
    {"examples/qwen/", {"qwen_prefill", "qwen_chat", "pager_bench"}},
    {"pager/", {"qwen_prefill", "qwen_chat", "pager_bench"}},
    {"loaders/", {"qwen_prefill", "qwen_chat", "pager_bench"}},
    {"kernels/", {"qwen_prefill", "qwen_chat", "pager_bench"}},
};

// "use --device host", but not "qwen_prefill --no-publish", which says whose option it is.
std::set<std::string> named_options(const MessageSite& site) {
  static const std::regex option("([a-z_]* )?(--[a-z][-a-z]*)");
  std::set<std::string> found;
  for (const std::string& text : site.texts) {
    for (std::sregex_iterator i(text.begin(), text.end(), option), end; i != end; ++i) {
      const bool is_of_program = std::ranges::any_of(
          programs(), [&](const Program& p) { return (*i)[1].str() == p.name + " "; });
      if (!is_of_program) found.insert((*i)[2].str());
    }
  }
  return found;
}

// What to do has to be possible in the program that says it.
TEST(LibraryMessages, NameOptionsOfTheProgramsThatSayThem) {
  std::map<std::string, std::set<std::string>> options;
  for (const Program& program : programs()) {
    options[program.name] = listed_names(run_process(program.path, {"--help"}).out);
  }
  int named = 0;
  for (const char* folder :
       {"pager", "loaders", "kernels", "examples/qwen", "examples/prediction"}) {
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(std::filesystem::path(SOURCES) / folder)) {
      if (!entry.is_regular_file()) continue;
      const std::string name = std::filesystem::relative(entry.path(), SOURCES);
      const auto speakers = std::ranges::find_if(
          kSpeakers, [&](const auto& of_files) { return name.starts_with(of_files.first); });
      for (const MessageSite& site : message_sites(name, content(entry.path()))) {
        for (const std::string& option : named_options(site)) {
          ++named;
          ASSERT_NE(speakers, kSpeakers.end()) << name << ":" << site.line << ": " << option;
          for (const std::string& program : speakers->second) {
            EXPECT_THAT(options[program], testing::Contains(option))
                << name << ":" << site.line << ", as " << program << " says it";
          }
        }
      }
    }
  }
  EXPECT_GT(named, 5);
}

INSTANTIATE_TEST_SUITE_P(Programs, Help, testing::ValuesIn(programs()),
                         [](const auto& program) { return program.param.name; });

}  // namespace
}  // namespace tensor_pager::tests
