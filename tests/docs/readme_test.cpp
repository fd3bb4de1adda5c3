// SPDX-License-Identifier: Apache-2.0
// Command lines of README.md do what it says: those with the model of this repository are run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "../examples/child_process.hpp"
#include "../temporary_directory.hpp"

namespace tensor_pager::tests {
namespace {

namespace fs = std::filesystem;

// Their measurements take long, or need a process that runs meanwhile.
bool is_run(std::string_view line) {
  constexpr std::array<std::string_view, 5> kBeginnings = {
      "qwen_chat -m $model", "qwen_prefill -m $model", "pager_stats stats.json",
      "pager_sim -m $model", "pager_sim --preset"};
  return line.find("bench.jsonl") == std::string_view::npos &&
         std::ranges::any_of(kBeginnings, [&](auto begin) { return line.starts_with(begin); });
}

std::vector<std::string> command_lines() {
  std::ifstream in(fs::path(SOURCES) / "README.md");
  std::vector<std::string> found;
  for (std::string line; std::getline(in, line);) {
    if (is_run(line)) found.push_back(line.substr(0, line.find('#')));
  }
  return found;
}

// "-n -1" goes on until the model ends, which may take minutes.
std::string shortened(std::string command) {
  const std::string open_end = "-n -1 ";
  const std::size_t at = command.find(open_end);
  return at == std::string::npos ? command : command.replace(at, open_end.size(), "-n 4 ");
}

TEST(Readme, ItsCommandsWork) {
  const TemporaryDirectory clone;
  for (const auto& entry : fs::directory_iterator(SOURCES)) {
    if (entry.path().filename() != "build") {
      fs::create_symlink(entry.path(), fs::path(clone / entry.path().filename().string()));
    }
  }
  const std::string set_up = std::string("cd \"$0\" && PATH=") +
                             fs::path(QWEN_PREFILL).parent_path().string() + ":$PATH" +
                             " && model=tests/data/models/tiny-qwen2-q4_k_m.gguf && ";
  const std::vector<std::string> commands = command_lines();
  EXPECT_GE(commands.size(), 6U);
  for (const std::string& command : commands) {
    const ProcessResult result =
        run_process("/bin/sh", {"-c", set_up + shortened(command), clone / "."});
    EXPECT_EQ(result.status, 0) << command << '\n' << result.err;
  }
}

}  // namespace
}  // namespace tensor_pager::tests
