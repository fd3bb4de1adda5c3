// SPDX-License-Identifier: Apache-2.0
// Ctrl-C: what was done by then is reported, and files of earlier runs are replaced or left alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::tests {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using Arguments = std::vector<std::string>;

// Whether the process has a handler for the signal.
bool catches(pid_t pid, int signal) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::uint64_t caught = 0;
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("SigCgt:")) caught = std::stoull(line.substr(7), nullptr, 16);
  }
  return (caught >> (signal - 1) & 1) != 0;
}

// Until the process has a handler for it, or has none any more.
void wait_until(bool caught, const ChildProcess& run, int signal) {
  for (int i = 0; i < 10000 && catches(run.pid(), signal) != caught; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

class Interrupt : public testing::Test {
 protected:
  static Arguments command(const Arguments& more) {
    Arguments all{"--device", "host", "-m", qwen::test_data("models/tiny-qwen2-q4_k_m.gguf")};
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

  long files() const {
    const auto files = std::filesystem::directory_iterator(directory_ / ".");
    return std::distance(begin(files), end(files));
  }

  TemporaryDirectory directory_;
  const std::string stats_ = directory_ / "stats";
  const std::string trace_ = directory_ / "trace";
};

TEST_F(Interrupt, InGenerationLeavesTextSummaryStatisticsAndTrace) {
  for (const auto& [signal, place] :
       {std::pair(SIGINT, "gpu"), std::pair(SIGTERM, "gpu"), std::pair(SIGHUP, "gpu"),
        std::pair(SIGINT, "50%"), std::pair(SIGTERM, "cpu")}) {
    if (::signal(signal, SIG_DFL) == SIG_IGN) {  // by nohup, say; programs keep to it
      ::signal(signal, SIG_IGN);
      continue;
    }
    ChildProcess run(QWEN_PREFILL, command({"-p", "In the beginning God", "-n", "1000000", "-c",
                                            "4000", "--arena", "30%", "--place", place, "--stats",
                                            stats_, "--trace", trace_}));
    for (int i = 0; i < 1000 && run.out().empty(); ++i) {  // until the first token is there
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
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
  ChildProcess run(QWEN_PREFILL,
                   command({"-f", qwen::test_data("models/heldout.txt"), "--perplexity", "-c",
                            "4000", "--arena", "30%", "--stats", stats_}));
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
  EXPECT_EQ(files(), 1);
}

// Where the arena holds the whole model, weights are read in the file itself.
TEST_F(Interrupt, ModelThatIsTruncatedMeanwhileIsAFailureWithOneLine) {
  const std::string model = directory_ / "model.gguf";
  const std::string source = qwen::test_data("models/tiny-qwen2-q4_k_m.gguf");
  for (const bool in_place : {true, false}) {
    std::filesystem::copy_file(source, model, std::filesystem::copy_options::overwrite_existing);
    Arguments arguments{"--device", "host",    "-m",  model,  "-p", "In the beginning God",
                        "-c",       "4000",    "-n",  "2000", "-q", "--temp",
                        "2",        "--arena", "100%"};
    if (!in_place) arguments.emplace_back("--no-pin-file");
    ChildProcess run(QWEN_PREFILL, arguments);
    for (int i = 0; i < 1000 && run.out().empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::filesystem::resize_file(model, 4096);
    const ProcessResult ended = run.wait();
    EXPECT_EQ(ended.status, 1) << "the token embedding is read from the file in any case";
    EXPECT_EQ(std::ranges::count(ended.err, '\n'), 1) << ended.err;
    EXPECT_TRUE(ended.err.starts_with("qwen_prefill: ")) << ended.err;
    // Between two tokens it is the reading of an embedding that finds it, in place, too.
    if (!in_place || ended.err.find("became shorter") == std::string::npos) {
      EXPECT_THAT(ended.err, HasSubstr("it was truncated after it was opened"));
    }
  }
}

// What cannot be asked about in time, a second Ctrl-C ends at once: a FIFO waits for its reader.
TEST_F(Interrupt, ASecondOneEndsTheProgramAtOnce) {
  const std::string fifo = directory_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    ChildProcess run(QWEN_PREFILL,
                     command({"-p", "In the beginning God", "--trace", trace_, "--logits", fifo}));
    wait_until(true, run, signal);
    run.kill(signal);
    wait_until(false, run, signal);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    siginfo_t ended_by_one{};
    ASSERT_EQ(
        ::waitid(P_PID, static_cast<id_t>(run.pid()), &ended_by_one, WEXITED | WNOHANG | WNOWAIT),
        0);
    EXPECT_EQ(ended_by_one.si_pid, 0);
    run.kill(signal);
    const ProcessResult ended = run.wait();
    EXPECT_EQ(ended.status, 128 + signal);
    EXPECT_THAT(ended.err, Not(HasSubstr("interrupted")));
    EXPECT_EQ(files(), 1) << "beside the FIFO";
  }
}

TEST_F(Interrupt, ASecondOneOfMakeGgufLeavesTheFormerModel) {
  const std::string model = directory_.write("m.gguf", "a model of before");
  bool at_once = false;
  for (int tries = 0; tries < 20 && !at_once; ++tries) {
    ChildProcess run(MAKE_GGUF, {"qwen2", "q4_k_m", model, "--preset", "7b", "-q"});
    wait_until(true, run, SIGINT);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    run.kill(SIGINT);
    wait_until(false, run, SIGINT);
    run.kill(SIGINT);
    const ProcessResult ended = run.wait();
    EXPECT_EQ(ended.status, 128 + SIGINT);
    at_once = ended.err.empty();
    EXPECT_EQ(std::filesystem::file_size(model), 17U);
    EXPECT_EQ(files(), 1);
  }
  EXPECT_TRUE(at_once);
}

}  // namespace
}  // namespace tensor_pager::tests
