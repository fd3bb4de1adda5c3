// SPDX-License-Identifier: Apache-2.0
// Ctrl-C: what was done by then is reported, and files of earlier runs are replaced or left alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
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
using tests::ChildProcess;
using tests::ProcessResult;
using Arguments = std::vector<std::string>;

class Interrupt : public testing::Test {
 protected:
  static Arguments command(const Arguments& more) {
    Arguments all{"--device", "host", "-m", test_data("models/tiny-qwen2-q4_k_m.gguf")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // Until it has written this to stderr.
  static void wait_for(const ChildProcess& run, const std::string& text) {
    for (int i = 0; i < 1000 && run.err().find(text) == std::string::npos; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  json stats() const {
    std::ifstream in(directory_ / "stats");
    return json::parse(in);
  }

  tests::TemporaryDirectory directory_;
  const std::string stats_ = directory_ / "stats";
  const std::string trace_ = directory_ / "trace";
};

TEST_F(Interrupt, InGenerationLeavesTextSummaryStatisticsAndTrace) {
  for (const int signal : {SIGINT, SIGTERM}) {
    ChildProcess run(QWEN_PREFILL,
                     command({"-p", "In the beginning God", "-n", "1000000", "-c", "4000", "--temp",
                              "2", "--arena", "30%", "--stats", stats_, "--trace", trace_}));
    wait_for(run, "memory");
    run.kill(signal);
    const ProcessResult ended = run.wait();
    EXPECT_EQ(ended.status, 128 + signal);
    EXPECT_THAT(ended.err, HasSubstr("stopped  in generation, after "));
    EXPECT_THAT(ended.err, HasSubstr("\nprefill  6 tokens"));
    EXPECT_TRUE(ended.err.ends_with("qwen_prefill: interrupted\n")) << ended.err;
    EXPECT_TRUE(ended.out.ends_with('\n'));
    EXPECT_EQ(stats()["run"]["outcome"], "interrupted");
    EXPECT_EQ(stats()["run"]["prompt_tokens"], 6);
    EXPECT_GT(stats()["run"]["generated_tokens"], 0);
    std::ifstream trace(trace_);
    EXPECT_TRUE(json::accept(trace));
  }
}

TEST_F(Interrupt, InPrefillCountsNoTokens) {
  ChildProcess run(QWEN_PREFILL, command({"-f", test_data("models/heldout.txt"), "--perplexity",
                                          "-c", "4000", "--arena", "30%", "--stats", stats_}));
  wait_for(run, "memory");
  run.kill(SIGINT);
  const ProcessResult ended = run.wait();
  EXPECT_EQ(ended.status, 128 + SIGINT);
  EXPECT_THAT(ended.err, HasSubstr("stopped  in prefill, after "));
  EXPECT_EQ(stats()["run"]["outcome"], "interrupted");
  EXPECT_GT(stats()["time"]["prefill_s"], 0);
}

TEST_F(Interrupt, OfMakeGgufLeavesTheFormerModel) {
  const std::string model = directory_.write("m.gguf", "a model of before");
  ChildProcess run(MAKE_GGUF, {"qwen2", "q4_k_m", model, "--preset", "7b", "-q"});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  run.kill(SIGINT);
  EXPECT_EQ(run.wait().status, 128 + SIGINT);
  EXPECT_EQ(std::filesystem::file_size(model), 17U);
  const auto files = std::filesystem::directory_iterator(directory_ / ".");
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);
}

}  // namespace
}  // namespace tensor_pager::qwen
