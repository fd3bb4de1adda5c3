// SPDX-License-Identifier: Apache-2.0
// The completion scripts that the programs print, run by the shells themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <ostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "programs.hpp"

namespace tensor_pager::tests {
namespace {

using testing::IsSupersetOf;
using testing::UnorderedElementsAre;
using Words = std::vector<std::string>;

// A script that prints one match per line; its arguments are the program's script and a command
// line whose end is the cursor.
constexpr const char* kBash = R"bash(
source "$1"
cd "$(dirname "$1")"
read -ra COMP_WORDS <<<"${2//=/ = }"
[[ $2 != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function=$(complete -p "${COMP_WORDS[0]}")
function=${function#*-F }
"${function% *}"
printf '%s\n' "${COMPREPLY[@]}"
)bash";

// zsh completes at a prompt only, so there is one behind a pseudo-terminal.
constexpr const char* kZsh = R"zsh(
zmodload zsh/zpty
cd ${1:h}
zpty shell zsh -f -i
zpty -w shell 'PROMPT= RPS1=; stty -echo; autoload -Uz compinit; compinit -D -u
compadd() {
  if (( ${@[(I)-[OAD]]} )); then builtin compadd "$@"; return; fi
  local -a hits
  builtin compadd -O hits "$@"
  print -rl -- "match:"${^hits}
}
finish() { print -r -- "[done]" }
complete-line() { comppostfuncs=(finish); zle complete-quietly }
zle -C complete-quietly complete-word _main_complete
zle -N complete-line; bindkey "^I" complete-line
source '${(q)1}'; print "[""ready]"'
zpty -r -m shell out '*\[ready\]*'
zpty -w -n shell "$2"$'\t'
zpty -r -m shell out '*\[done\]*'
print -r -- "$out" | tr -d '\r' | sed -n 's/.*match://p'
zpty -d shell
)zsh";

struct Shell {
  std::string name;
  std::string path;
  std::string script;

  friend std::ostream& operator<<(std::ostream& out, const Shell& shell) {
    return out << shell.name;
  }
};

std::string path_of(const std::string& shell) {
  for (const std::string folder : {"/bin/", "/usr/bin/", "/usr/local/bin/"}) {
    if (std::filesystem::exists(folder + shell)) return folder + shell;
  }
  return {};
}

class Completion : public testing::TestWithParam<Shell> {
 protected:
  void SetUp() override {
    if (GetParam().path.empty()) GTEST_SKIP() << GetParam().name << " is not installed";
    for (const Program& program : programs()) {
      const auto printed = run_process(program.path, {"--completion", GetParam().name});
      ASSERT_EQ(printed.status, 0) << printed.err;
      directory_.write(program.name, printed.out);
    }
    directory_.write("stats.json", "");
    directory_.write("story of it.txt", "");
  }

  Words complete(const std::string& line) const {
    const std::string script = directory_ / line.substr(0, line.find(' '));
    const auto run = run_process(GetParam().path, {GetParam().name == "zsh" ? "-f" : "--norc", "-c",
                                                   GetParam().script, "complete", script, line});
    EXPECT_EQ(run.err, "") << line;
    std::set<std::string> matches;
    std::istringstream in(run.out);
    for (std::string match; std::getline(in, match);) {
      std::erase(match, '\\');  // zsh quotes blanks, bash leaves that to readline
      if (!match.empty()) matches.insert(match);
    }
    return {matches.begin(), matches.end()};
  }

  TemporaryDirectory directory_;
};

TEST_P(Completion, OffersEveryOptionThatHelpLists) {
  for (const Program& program : programs()) {
    const std::set<std::string> listed = listed_names(run_process(program.path, {"--help"}).out);
    EXPECT_THAT(complete(program.name + " -"), testing::UnorderedElementsAreArray(listed));
  }
}

TEST_P(Completion, OffersOptionsThatBeginAlike) {
  EXPECT_THAT(complete("qwen_prefill --pr"),
              UnorderedElementsAre("--predict", "--presence-penalty", "--prompt", "--prompts"));
  EXPECT_THAT(complete("make_gguf qwen2 f16 m.gguf --s"),
              UnorderedElementsAre("--seed", "--split"));
}

TEST_P(Completion, OffersChoices) {
  EXPECT_THAT(complete("qwen_prefill --device "), UnorderedElementsAre("auto", "cuda", "host"));
  EXPECT_THAT(complete("qwen_prefill -ub 4 --device=c"), UnorderedElementsAre("cuda"));
  EXPECT_THAT(complete("qwen_prefill --vram "), UnorderedElementsAre("auto"));
  EXPECT_THAT(complete("pager_bench -o js"), UnorderedElementsAre("json", "jsonl"));
  EXPECT_THAT(complete("qwen_prefill -n "), UnorderedElementsAre());
}

TEST_P(Completion, OffersTheNextOfAList) {
  const std::string head = GetParam().name == "bash" ? "lru," : "";  // zsh matches the end alone
  EXPECT_THAT(complete("pager_sim --policy lru,look"), UnorderedElementsAre(head + "lookahead"));
}

TEST_P(Completion, OffersFiles) {
  EXPECT_THAT(complete("pager_stats st"), UnorderedElementsAre("stats.json", "story of it.txt"));
  EXPECT_THAT(complete("pager_stats x --diff=sta"), UnorderedElementsAre("stats.json"));
  EXPECT_THAT(complete("qwen_prefill -f "), IsSupersetOf({"stats.json", "story of it.txt"}));
}

TEST_P(Completion, KnowsWhichArgumentComesNext) {
  EXPECT_THAT(complete("make_gguf "), IsSupersetOf({"qwen2", "qwen3"}));
  EXPECT_THAT(complete("make_gguf --preset 7b qwen3 q8"), UnorderedElementsAre("q8_0"));
  EXPECT_THAT(complete("make_gguf --preset=7b --tied qwen3 q8"), UnorderedElementsAre("q8_0"));
  EXPECT_THAT(complete("make_gguf qwen3 q8_0 sta"), UnorderedElementsAre("stats.json"));
}

INSTANTIATE_TEST_SUITE_P(Shells, Completion,
                         testing::Values(Shell{"bash", path_of("bash"), kBash},
                                         Shell{"zsh", path_of("zsh"), kZsh}),
                         [](const auto& shell) { return shell.param.name; });

}  // namespace
}  // namespace tensor_pager::tests
