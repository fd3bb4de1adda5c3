// SPDX-License-Identifier: Apache-2.0
// docs/troubleshooting.md has every message that the sources can give, word for word.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "source_messages.hpp"

namespace tensor_pager::tests {
namespace {

namespace fs = std::filesystem;

// What is shorter tells nothing.
constexpr std::size_t kShortest = 4;

// Throw expressions whose message is made elsewhere, and how many of them a file has.
const std::map<std::string, std::pair<int, std::string>> kNoMessage = {
    {"examples/command_line/interrupt.cpp", {1, "\"interrupted\", which the header has"}},
    {"examples/command_line/parser.cpp", {1, "CLI11's messages"}},
    {"examples/qwen_prefill/prompt.cpp", {1, "a tokenizer's message, and where the text is"}},
    {"examples/qwen_chat/chat.cpp",
     {3, "what is wrong with a text, a size, or a file that is written"}},
    {"pager/src/devices/host/address_range.cpp", {1, "the error of madvise, kept over munmap"}},
    {"pager/src/driver/stream_reports.cpp", {2, "the first failure's message, and how many more"}},
    {"loaders/src/tokenizer_words.cpp", {2, "std::bad_alloc"}},
    {"examples/qwen/src/memory_plan.cpp", {2, "the error that too_small() makes"}},
    {"tools/pager_stats/report/recording.cpp",
     {1, "what is wrong, which read_recording() completes"}},
    {"examples/qwen/src/forward_pass.cpp", {2, "the error that not_numbers() makes"}},
    {"loaders/src/layer_weights.cpp", {1, "the error that missing_tensor() makes"}},
    {"loaders/src/model_config.cpp", {1, "the error that missing_tensor() makes"}},
};

std::string content(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<fs::path> sources() {
  std::vector<fs::path> files;
  for (const char* folder : {"pager", "kernels", "loaders", "examples", "tools"}) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(SOURCES) / folder)) {
      const std::string kind = entry.path().extension();
      if (kind == ".cpp" || kind == ".hpp" || kind == ".cu" || kind == ".cuh") {
        files.push_back(entry.path());
      }
    }
  }
  std::ranges::sort(files);
  return files;
}

std::string trimmed(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" ;,");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(' ') + 1 - begin);
}

// The texts of a message that tell it from others.
std::vector<std::string> telling(const MessageSite& site) {
  std::vector<std::string> found;
  for (const std::string& text : site.texts) {
    if (const std::string piece = trimmed(text); piece.size() >= kShortest) found.push_back(piece);
  }
  return found;
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> found;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) found.push_back(line);
  return found;
}

// A message is in one row of a table.
bool has_row(const std::vector<std::string>& page, const std::vector<std::string>& texts) {
  return std::ranges::any_of(page, [&](const std::string& row) {
    return std::ranges::all_of(
        texts, [&](const std::string& text) { return row.find(text) != std::string::npos; });
  });
}

TEST(Troubleshooting, HasEveryMessageOfTheSources) {
  const std::vector<std::string> page =
      lines(content(fs::path(SOURCES) / "docs/troubleshooting.md"));
  ASSERT_FALSE(page.empty());
  std::map<std::string, int> without;
  int sites = 0;
  for (const fs::path& file : sources()) {
    const std::string name = fs::relative(file, SOURCES);
    for (const MessageSite& site : message_sites(file, content(file))) {
      ++sites;
      const std::vector<std::string> texts = telling(site);
      if (texts.empty() && ++without[name] > 0 && !kNoMessage.contains(name)) {
        ADD_FAILURE() << name << ":" << site.line << ": an error without a text of its own";
      }
      EXPECT_TRUE(texts.empty() || has_row(page, texts))
          << name << ":" << site.line << ": no row of docs/troubleshooting.md has "
          << testing::PrintToString(texts);
    }
  }
  for (const auto& [name, exempt] : kNoMessage) {
    EXPECT_EQ(without[name], exempt.first) << name << ": " << exempt.second;
  }
  EXPECT_GT(sites, 200);
}

// The scanner itself, on what could mislead it.
TEST(Troubleshooting, FindsMessagesInSources) {
  const std::string source = R"source(
// throw Error("in a comment");
void f(char c) {
  if (c == '"' || c == '\'') throw;
  if (c == 1'000) throw Error("a \"quoted\" " + std::to_string(c) + " text of "
                              "two lines; " + g("{}: {{braces}} around {:>3}", c));
  lease.failure = "kept for later";
}
GgufError Model::missing(int a) const {
  return {a, "made by a function"};
}
)source";
  const auto sites = message_sites("f.cpp", source);
  ASSERT_EQ(sites.size(), 3U);
  EXPECT_EQ(sites[0].line, 5U);
  EXPECT_THAT(sites[0].texts, testing::ElementsAre("a \"quoted\" ", " text of two lines; ", "",
                                                   ": {braces} around ", ""));
  EXPECT_THAT(sites[1].texts, testing::ElementsAre("kept for later"));
  EXPECT_THAT(sites[2].texts, testing::ElementsAre("made by a function"));
}

}  // namespace
}  // namespace tensor_pager::tests
