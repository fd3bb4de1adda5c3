// SPDX-License-Identifier: Apache-2.0
// Several texts of one run of qwen_prefill: each is what it would be alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using tests::ProcessResult;
using Arguments = std::vector<std::string>;

constexpr const char* kPrompt = "In the beginning God";

class Parallel : public testing::Test {
 protected:
  static Arguments command(const Arguments& more) {
    Arguments all{"--device", "host", "-m", test_data("models/tiny-qwen2-q4_k_m.gguf")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static ProcessResult run(const Arguments& more) {
    return tests::run_process(QWEN_PREFILL, command(more));
  }
  // What comes below the lines that number the texts.
  static std::vector<std::string> texts(const std::string& out, std::size_t count) {
    std::vector<std::string> texts;
    std::size_t at = 0;
    for (std::size_t i = 1; i <= count; ++i) {
      const std::string line =
          "--- " + std::to_string(i) + " of " + std::to_string(count) + " ---\n";
      if (!out.substr(at).starts_with(line)) {
        ADD_FAILURE() << "text " << i << " is not at " << at << " of\n" << out;
        return texts;
      }
      at += line.size();
      const std::size_t end = out.find("--- " + std::to_string(i + 1) + " of ", at);
      texts.push_back(out.substr(at, end == std::string::npos ? end : end - at));
      at = end;
    }
    return texts;
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(Parallel, ContinuationsAreThoseOfTheirSeeds) {
  std::vector<std::string> expected;
  for (const char* seed : {"7", "8", "9"}) {
    expected.push_back(run({"-q", "-p", kPrompt, "-n", "12", "--temp", "1", "-s", seed}).out);
  }
  EXPECT_NE(expected[0], expected[1]);
  for (const Arguments& where :
       std::vector<Arguments>{{}, {"--arena", "30%"}, {"--arena", "50%", "--place", "60%"}}) {
    Arguments all{"-q", "-p", kPrompt, "-n", "12", "--temp", "1", "-s", "7", "-np", "3"};
    all.insert(all.end(), where.begin(), where.end());
    const ProcessResult result = run(all);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(texts(result.out, 3), expected);
  }
}

// What is fastest is predicted for as many as run together.
TEST_F(Parallel, PlacesAreChosenForAllTexts) {
  const Arguments seeds{"-q", "-p", kPrompt, "-n", "6", "--temp", "1", "-s", "7", "-np", "3"};
  const auto with = [&](const Arguments& more) {
    Arguments all = seeds;
    all.insert(all.end(), more.begin(), more.end());
    return run(all);
  };
  const ProcessResult automatic = with({"--arena", "40%", "--place", "auto", "--explain"});
  EXPECT_EQ(automatic.status, 0) << automatic.err;
  EXPECT_EQ(automatic.out, with({}).out);
  EXPECT_THAT(automatic.err, HasSubstr("generation, 3 tokens a pass"));
  // Rates that were kept of one text are not those of three.
  const auto origin = [](const ProcessResult& result) {
    const std::size_t at = result.err.rfind("       ");
    return result.err.substr(at, result.err.find('\n', at) - at);
  };
  EXPECT_THAT(origin(with({"--place", "auto", "--explain"})), HasSubstr("measured on"));
  EXPECT_THAT(run({"-q", "-p", kPrompt, "-n", "2", "--place", "auto", "--explain"}).err,
              HasSubstr("generation, 1 token a pass"));
}

// Whether they take turns or not; texts end at different times.
TEST_F(Parallel, LinesAreContinuedAsIfEachWereAlone) {
  const std::vector<std::string> lines{kPrompt, "And", "The LORD is my shepherd; I shall", "Thou"};
  const std::string file = directory_.write(
      "prompts", lines[0] + "\r\n\n" + lines[1] + "\n" + lines[2] + "\n" + lines[3]);
  std::vector<std::string> expected;
  for (const std::string& line : lines) {
    expected.push_back(run({"-q", "-p", line, "-n", "9", "-c", "14"}).out);
  }
  for (const char* at_a_time : {"1", "2", "3", "4", "100"}) {
    const ProcessResult result =
        run({"-q", "--prompts", file, "-n", "9", "-c", "14", "--parallel", at_a_time});
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(texts(result.out, 4), expected) << at_a_time;
    EXPECT_THAT(result.err, HasSubstr("text 3: the context of 14 tokens is full after "));
  }
  EXPECT_EQ(texts(run({"-q", "--prompts", file, "-n", "9", "-c", "14"}).out, 4), expected);
}

TEST_F(Parallel, OneLineIsOneText) {
  const std::string file = directory_.write("prompts", std::string(kPrompt) + "\n");
  EXPECT_EQ(run({"-q", "--prompts", file, "-n", "5", "-np", "3"}).out,
            run({"-q", "-p", kPrompt, "-n", "5"}).out);
}

TEST_F(Parallel, StatisticsAreOfAllTexts) {
  const auto statistics = [&](const Arguments& prompts) {
    const std::string stats = directory_ / "stats";
    Arguments all{"-q", "-n", "5", "--stats", stats};
    all.insert(all.end(), prompts.begin(), prompts.end());
    EXPECT_EQ(run(all).status, 0);
    std::ifstream in(stats);
    return json::parse(in);
  };
  int prompt_tokens = 0;
  int generated_tokens = 0;
  for (const char* line : {"And", "The sun", "For"}) {
    const json alone = statistics({"-p", line});
    EXPECT_EQ(alone["run"]["sequences"], 1);
    prompt_tokens += alone["run"]["prompt_tokens"].get<int>();
    generated_tokens += alone["run"]["generated_tokens"].get<int>();
  }
  const std::string file = directory_.write("prompts", "And\nThe sun\nFor\n");
  const json together = statistics({"--prompts", file, "-np", "2"});
  EXPECT_EQ(together["run"]["sequences"], 2);
  EXPECT_EQ(together["run"]["prompt_tokens"], prompt_tokens);
  EXPECT_EQ(together["run"]["generated_tokens"], generated_tokens);
  EXPECT_LE(together["memory"]["peak_bytes"], together["memory"]["budget_bytes"]);
}

TEST_F(Parallel, NothingIsGeneratedOfNothing) {
  const std::string file = directory_.write("prompts", "And\nThe\nFor\n");
  for (const Arguments& prompts :
       std::vector<Arguments>{{"--prompts", file}, {"-p", kPrompt, "-np", "3"}}) {
    Arguments all{"-q", "-n", "0"};
    all.insert(all.end(), prompts.begin(), prompts.end());
    const ProcessResult result = run(all);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

TEST_F(Parallel, WrongUsageIsSaid) {
  const std::string file = directory_.write("prompts", "And\nThe\n");
  const std::string empty = directory_.write("empty", "\n\n");
  const auto error = [](const Arguments& arguments, int status) {
    const ProcessResult result = run(arguments);
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_EQ(result.out, "");
    return result.err;
  };
  EXPECT_THAT(error({"--prompts", file, "-p", "x"}, 2), HasSubstr("give one"));
  EXPECT_THAT(error({"--prompts", file, "--logits", directory_ / "l"}, 2), HasSubstr("one prompt"));
  EXPECT_THAT(error({"--prompts", file, "--perplexity"}, 2), HasSubstr("one prompt"));
  EXPECT_THAT(error({"-p", "x", "-np", "2", "--perplexity"}, 2), HasSubstr("--parallel"));
  EXPECT_THAT(error({"-p", "x", "-np", "0"}, 2), HasSubstr("0 is not from 1 to 1024"));
  EXPECT_THAT(error({"--prompts", empty}, 1), HasSubstr("has no prompts"));
  EXPECT_THAT(error({"--prompts", directory_ / "none"}, 1), HasSubstr("cannot read"));
  EXPECT_THAT(error({"-p", "x", "-np", "1024", "--vram", "1MiB", "-q"}, 1),
              HasSubstr("1024 sequences of 64 positions"));
}

// What there is of each text is written, in order.
TEST_F(Parallel, AnInterruptEndsAllTexts) {
  const Arguments all = command({"-p", kPrompt, "-n", "1000000", "-c", "4000", "--temp", "2", "-np",
                                 "3", "--arena", "30%", "--place", "50%"});
  ProcessResult ended;
  // Held texts do not show when the first token is there; a busy machine takes long to come to it.
  for (int milliseconds = 300; milliseconds < 20'000; milliseconds *= 3) {
    tests::ChildProcess child(QWEN_PREFILL, all);
    for (int i = 0; i < 1000 && child.err().find("sampling") == std::string::npos; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    child.kill(SIGINT);
    ended = child.wait();
    if (ended.err.find("in generation") != std::string::npos) break;
  }
  EXPECT_EQ(ended.status, 128 + SIGINT);
  EXPECT_THAT(ended.err, HasSubstr("stopped  in generation, after "));
  for (const std::string& text : texts(ended.out, 3)) EXPECT_GT(text.size(), 1U);
}

}  // namespace
}  // namespace tensor_pager::qwen
