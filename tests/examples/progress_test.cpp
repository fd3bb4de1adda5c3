// SPDX-License-Identifier: Apache-2.0
// Progress bars, as users see them: on a terminal, and nowhere else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "command_line/progress_bar.hpp"
#include "model_run.hpp"
#include "random_model.hpp"

namespace tensor_pager::qwen {
namespace {

using command_line::progress_line;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using Arguments = std::vector<std::string>;

// Bar, share, rate and time left of `unit`s.
std::string bar_of(const std::string& unit) {
  return "\\[#*\\.*\\] +[0-9]+%  [0-9.]+ " + unit + "/s  [0-9]+:[0-9][0-9] left";
}

// What is to be seen on the terminal after all that was written, in lines without trailing blanks.
std::vector<std::string> screen(const std::string& written) {
  std::vector<std::string> lines(1);
  std::size_t column = 0;
  for (std::size_t i = 0; i < written.size(); ++i) {
    std::string& line = lines.back();
    if (written.compare(i, 3, "\x1b[K") == 0) {
      line.resize(std::min(line.size(), column));
      i += 2;
    } else if (written[i] == '\r') {
      column = 0;
    } else if (written[i] == '\n') {
      lines.emplace_back();
      column = 0;
    } else {
      line.resize(std::max(line.size(), column + 1), ' ');
      line[column++] = written[i];
    }
  }
  return lines;
}

// The longest of the bars, which end in an erasure each.
std::size_t widest_bar(const std::string& written) {
  std::size_t width = 0;
  for (std::size_t end = written.find("\x1b[K"); end != std::string::npos;
       end = written.find("\x1b[K", end + 1)) {
    width = std::max(width, end - written.rfind('\r', end) - 1);
  }
  return width;
}

#ifdef TENSOR_PAGER_SANITIZED
constexpr std::size_t kLess = 5;  // to do, since everything takes ten times as long and more
#else
constexpr std::size_t kLess = 1;
#endif

// Runs that take a second or more, on any machine: little memory bandwidth, or little at a time.
class ProgressTest : public testing::Test {
 protected:
  static std::string model() { return test_data("models/tiny-qwen2-q4_k_m.gguf"); }

  static Arguments slow_bench() {
    return {"-m", model(), "--device", "host", "-p", "16", "-r", "1", "--link-rate", "0.004"};
  }

  Arguments slow_prefill() const {
    std::ifstream in(test_data("models/heldout.txt"));
    std::string text(8'000 / kLess, ' ');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    return {"-m", model(), "-f", directory_.write("text", text), "--device", "host", "-ub", "1"};
  }

  static Arguments with(Arguments arguments, const Arguments& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(ProgressTest, LineFitsAnyWidth) {
  const command_line::Progress progress{.title = "prefill",
                                        .share = 0.5,
                                        .rate = 1234.56,
                                        .unit = "token",
                                        .left = std::chrono::seconds(3725)};
  for (std::size_t width = 0; width < 200; ++width) {
    EXPECT_LE(progress_line(progress, width).size(), width);
  }
  EXPECT_EQ(progress_line(progress, 200),
            "prefill [###############...............]  50%  1234.6 token/s  1:02:05 left");
  EXPECT_EQ(progress_line(progress, 50), "prefill [##...]  50%  1234.6 token/s  1:02:05 left");
  EXPECT_EQ(progress_line(progress, 45), "prefill  50%  1234.6 token/s  1:02:05 left");
}

TEST_F(ProgressTest, PrefillShowsRateAndTimeLeft) {
  const auto run = tests::run_on_terminal(QWEN_PREFILL, with(slow_prefill(), {"-n", "1"}));
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.written, ContainsRegex("prefill " + bar_of("token")));
  EXPECT_LT(widest_bar(run.written), 80U);
  for (const std::string& line : screen(run.written)) EXPECT_THAT(line, Not(HasSubstr("left")));
}

TEST_F(ProgressTest, PerplexityShowsOneBarForAllChunks) {
  const auto run = tests::run_on_terminal(
      QWEN_PREFILL, with(slow_prefill(), {"--perplexity", "-c", std::to_string(512 / kLess)}));
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.written, ContainsRegex("prefill " + bar_of("token")));
  const std::vector<std::string> lines = screen(run.written);
  EXPECT_THAT(lines, testing::Contains(testing::StartsWith("chunk 1 of 4: PPL = ")));
  EXPECT_THAT(lines, testing::Contains(testing::StartsWith("Final estimate: PPL = ")));
  EXPECT_THAT(lines, testing::Each(Not(HasSubstr("left"))));
}

TEST_F(ProgressTest, GenerationShowsABarWhereItsTextIsNotSeen) {
  // It has no vocabulary, so no token ends the text.
  const std::string endless = directory_ / "endless.gguf";
  make_gguf::write_random_model(endless, {.type = "f32"});
  const Arguments arguments = {"-m",       endless,
                               "--tokens", directory_.write("ids", "1 2 3"),
                               "-n",       std::to_string(2000 / kLess),
                               "--device", "host"};
  const auto redirected =
      tests::run_on_terminal(QWEN_PREFILL, arguments, {.stdout_is_terminal = false});
  EXPECT_EQ(redirected.status, 0);
  EXPECT_THAT(redirected.written, ContainsRegex("generate " + bar_of("token")));
  EXPECT_GT(redirected.out.size(), 100U);
  const auto seen = tests::run_on_terminal(QWEN_PREFILL, arguments);
  EXPECT_THAT(seen.written, Not(HasSubstr("generate [")));
}

TEST_F(ProgressTest, BenchmarkShowsWhichRowAndHowFar) {
  const auto run = tests::run_on_terminal(PAGER_BENCH, with(slow_bench(), {"-n", "1"}));
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.written, ContainsRegex("1 of 2: pp16 " + bar_of("token")));
  EXPECT_THAT(screen(run.written), testing::Each(Not(HasSubstr("left"))));
}

TEST_F(ProgressTest, FitsANarrowTerminal) {
  const auto run =
      tests::run_on_terminal(PAGER_BENCH, with(slow_bench(), {"-o", "json"}), {.columns = 40});
  EXPECT_THAT(run.written, HasSubstr("pp16"));
  EXPECT_EQ(widest_bar(run.written), 39U);
}

TEST_F(ProgressTest, QuietShowsNone) {
  const auto bench = tests::run_on_terminal(PAGER_BENCH, with(slow_bench(), {"-q"}));
  EXPECT_EQ(bench.status, 0);
  EXPECT_THAT(bench.written, Not(HasSubstr("left")));
  EXPECT_THAT(bench.written, Not(HasSubstr("\x1b")));
  const auto prefill =
      tests::run_on_terminal(QWEN_PREFILL, with(slow_prefill(), {"-n", "0", "-q"}));
  EXPECT_EQ(prefill.written, "");
}

TEST_F(ProgressTest, PipesGetNone) {
  const auto bench = tests::run_process(PAGER_BENCH, slow_bench());
  EXPECT_EQ(bench.status, 0);
  EXPECT_THAT(bench.out + bench.err, Not(HasSubstr("\x1b")));
  const auto prefill = tests::run_process(QWEN_PREFILL, with(slow_prefill(), {"-n", "1"}));
  EXPECT_EQ(prefill.status, 0);
  EXPECT_THAT(prefill.out + prefill.err, Not(HasSubstr("\x1b")));
  EXPECT_THAT(prefill.err, Not(HasSubstr(" left")));
}

// Rows before the one that fails had a bar.
TEST_F(ProgressTest, ErrorsStandAlone) {
  const auto run =
      tests::run_on_terminal(PAGER_BENCH, with(slow_bench(), {"--arena", "1MiB,1KiB"}));
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.written, ContainsRegex("1 of 2: pp16 " + bar_of("token")));
  EXPECT_THAT(
      screen(run.written),
      testing::Contains(testing::StartsWith("pager_bench: pp16 with --arena 1024 is left out: ")));
}

}  // namespace
}  // namespace tensor_pager::qwen
