// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "model_run.hpp"

// The program itself: its output, its statistics, its budgets. What it says about bad input is in
// bad_input_test.cpp.
namespace tensor_pager::qwen {
namespace {

using nlohmann::json;
using tests::ProcessResult;
using Arguments = std::vector<std::string>;

class ProgramTest : public testing::Test {
 protected:
  ProcessResult run(const Arguments& more) const {
    Arguments all{"-m",       test_data("models/tiny-qwen2-q4_k_m.gguf"),
                  "-p",       "In the beginning God",
                  "--device", "host"};
    all.insert(all.end(), more.begin(), more.end());
    return tests::run_process(QWEN_PREFILL, all);
  }

  std::string path(const std::string& name) const { return directory_ / name; }

  json read_json(const std::string& name) const {
    std::ifstream in(directory_ / name);
    return json::parse(in);
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(ProgramTest, QuietLeavesTheTextAlone) {
  const ProcessResult loud = run({"-n", "16"});
  const ProcessResult quiet = run({"-n", "16", "-q"});
  EXPECT_EQ(loud.status, 0);
  EXPECT_EQ(quiet.status, 0);
  EXPECT_EQ(quiet.err, "");
  EXPECT_EQ(quiet.out, loud.out);
  EXPECT_TRUE(quiet.out.ends_with('\n'));
  EXPECT_GT(quiet.out.size(), 20U);
  for (const char* part :
       {"tiny-qwen2-kjv", "arena", "frames", "threads", "prefill", "evictions"}) {
    EXPECT_THAT(loud.err, testing::HasSubstr(part));
  }
}

TEST_F(ProgramTest, StopsAtPredictAndAtTheEndOfTheContext) {
  EXPECT_EQ(run({"-n", "0", "-q"}).out, "");
  // Four tokens fit behind the prompt of six, and the fifth is never read back.
  const ProcessResult full = run({"-n", "32", "-c", "10", "-q"});
  EXPECT_EQ(full.status, 0);
  EXPECT_EQ(full.out, run({"-n", "5", "-q"}).out);
  EXPECT_THAT(full.err, testing::HasSubstr("context of 10 tokens is full after 5 of 32"));
}

TEST_F(ProgramTest, SamplesTheSameWithTheSameSeed) {
  const std::string first = run({"-q", "--temp", "1", "--seed", "7"}).out;
  EXPECT_EQ(first, run({"-q", "--temp", "1", "--seed", "7", "--arena", "30%", "-ub", "2"}).out);
  EXPECT_NE(first, run({"-q", "--temp", "1", "--seed", "8"}).out);
}

TEST_F(ProgramTest, ModelThatFitsIsReadInItsFile) {
  const Arguments all{"-q", "-n", "8", "--arena", "100%", "--stats", path("stats.json")};
  const std::string in_place = run(all).out;
  const json stats = read_json("stats.json");
  EXPECT_EQ(stats["device"]["name"], "host memory, files in place");
  EXPECT_EQ(stats["bytes"]["h2d"], 0);
  EXPECT_GT(stats["bytes"]["optimal_h2d"], 0);
  EXPECT_GT(stats["pages"]["misses"], 0);
  Arguments copied = all;
  copied.emplace_back("--no-pin-file");
  EXPECT_EQ(run(copied).out, in_place);
  EXPECT_EQ(read_json("stats.json")["device"]["name"], "host memory");
  EXPECT_EQ(run({"-q", "-n", "8", "--arena", "30%"}).out, in_place);
}

TEST_F(ProgramTest, CountersAgreeWithOneAnother) {
  for (const Arguments& options :
       std::vector<Arguments>{{"--arena", "25%"},
                              {"--arena", "25%", "--policy", "lru", "--page", "16KiB"},
                              {"--arena", "60%", "--lookahead", "3", "-ub", "2"},
                              {"--arena", "100%", "--no-pin-file"},
                              {"--vram", "2MiB"}}) {
    Arguments all{"-q", "-n", "8", "--stats", path("stats.json")};
    all.insert(all.end(), options.begin(), options.end());
    ASSERT_EQ(run(all).status, 0);
    const json stats = read_json("stats.json");
    const auto& pages = stats["pages"];
    const auto number = [](const json& value) { return value.get<std::uint64_t>(); };
    SCOPED_TRACE(stats.dump());
    EXPECT_EQ(number(pages["misses"]), number(pages["prefetched"]) + number(pages["late"]));
    EXPECT_GT(number(pages["misses"]), 0U);
    EXPECT_EQ(number(stats["arena"]["bytes"]) / number(stats["arena"]["page_bytes"]),
              number(stats["arena"]["frames"]));
    EXPECT_LE(number(pages["resident"]), number(stats["arena"]["frames"]));
    EXPECT_LE(number(stats["memory"]["peak_bytes"]), number(stats["memory"]["budget_bytes"]));
    // Every page that was copied is still there or was evicted; the image's last page is short.
    const std::uint64_t page = number(stats["arena"]["page_bytes"]);
    const std::uint64_t copied = number(pages["resident"]) + number(pages["evictions"]);
    const std::uint64_t shorter = page - number(stats["model"]["bytes"]) % page;
    ASSERT_GE(copied * page, number(stats["bytes"]["h2d"]));
    EXPECT_EQ((copied * page - number(stats["bytes"]["h2d"])) % shorter, 0U);
    EXPECT_GE(number(stats["bytes"]["h2d"]), number(stats["bytes"]["optimal_h2d"]));
    EXPECT_GT(stats["bound"]["fraction"].get<double>(), 0.0);
    EXPECT_LE(stats["bound"]["compute_s"].get<double>(), stats["time"]["prefill_s"].get<double>());
  }
}

TEST_F(ProgramTest, StatisticsHaveExactlyTheAgreedFields) {
  ASSERT_EQ(run({"-q", "-n", "2", "--stats", path("stats")}).status, 0);
  const json stats = read_json("stats");
  const json fields = json::parse(R"({
    "run": ["outcome", "prompt_tokens", "generated_tokens", "sequences"],
    "model": ["name", "architecture", "file_type", "bytes", "weights_bytes", "tensors"],
    "device": ["kind", "name", "link_gb_per_s", "store"],
    "arena": ["bytes", "page_bytes", "frames", "peak_frames"],
    "memory": ["budget_bytes", "peak_bytes"],
    "pages": ["total", "resident", "hits", "misses", "prefetched", "late", "evictions", "remaps"],
    "bytes": ["h2d", "optimal_h2d", "disk"],
    "time": ["load_s", "first_step_s", "prefill_s", "decode_s", "stall_s", "link_busy_s",
             "processor_s", "processor_wait_s"],
    "rates": ["prefill_tokens_per_s", "decode_tokens_per_s", "link_gb_per_s"],
    "placement": ["on_cpu_bytes", "resident_bytes", "streamed_bytes", "token_s", "bound_s",
                  "threads", "explanation"],
    "bound": ["link_s", "compute_s", "fraction", "limit", "doubt"]})");
  const auto keys = [](const json& object) {
    std::vector<std::string> names;
    for (const auto& [name, value] : object.items()) names.push_back(name);
    return names;
  };
  EXPECT_EQ(keys(stats), keys(fields));
  for (const auto& [section, names] : fields.items()) {
    EXPECT_THAT(keys(stats[section]),
                testing::UnorderedElementsAreArray(names.get<std::vector<std::string>>()));
  }
  EXPECT_EQ(stats["model"]["file_type"], "Q4_K_M");
  EXPECT_EQ(stats["model"]["architecture"], "qwen2");
}

// A reader of JSON gets nothing else, by whatever name stdout goes.
TEST_F(ProgramTest, StatisticsOnStdoutSendTheTextElsewhere) {
  const std::string text = run({"-q", "-n", "4"}).out;
  for (const std::string option : {"--stats", "--trace", "--logits"}) {
    for (const std::string name : {"-", "/dev/stdout"}) {
      const ProcessResult result = run({"-q", "-n", "4", option, name});
      EXPECT_EQ(result.status, 0) << result.err;
      if (option != "--logits") {
        EXPECT_TRUE(json::accept(result.out)) << result.out.substr(0, 200);
      }
      EXPECT_EQ(result.out.find(text), std::string::npos) << option;
      EXPECT_EQ(result.err, text);
    }
  }
  const ProcessResult both = run({"--stats", "-", "--trace", "/dev/stdout"});
  EXPECT_EQ(both.status, 2);
  EXPECT_THAT(both.err, testing::HasSubstr("same file"));
}

// What is printed must not be found in a file that got the number of a stream.
TEST_F(ProgramTest, RunsWithoutStandardStreams) {
  const std::string stats = directory_ / "stats";
  const std::string command = R"("$0" -m "$1" -p x -n 4 --stats "$2" )";
  const std::string model = test_data("models/tiny-qwen2-q4_k_m.gguf");
  for (const auto& [where, status] : {std::pair("2>&-", 0), std::pair("2>/dev/full", 0),
                                      std::pair("<&- 2>&-", 0), std::pair("<&- >&- 2>&-", 1)}) {
    std::filesystem::remove(stats);
    const ProcessResult result =
        tests::run_process("/bin/sh", {"-c", command + where, QWEN_PREFILL, model, stats});
    EXPECT_EQ(result.status, status) << where;
    std::ifstream in(stats);
    EXPECT_EQ(json::accept(in), status == 0) << where;
  }
}

TEST_F(ProgramTest, AFileThatMayNotGrowIsAnError) {
  const std::string command = R"(ulimit -f 1; exec "$0" -m "$1" -p x -n 1 -q --logits "$2")";
  const ProcessResult result = tests::run_process(
      "/bin/sh", {"-c", command, QWEN_PREFILL, test_data("models/tiny-qwen2-q4_k_m.gguf"),
                  directory_ / "out"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, testing::HasSubstr("File too large"));
  EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
}

TEST_F(ProgramTest, EarlierFilesOutliveARunThatFails) {
  for (const std::string option : {"--stats", "--trace", "--logits"}) {
    const std::string file = directory_.write("earlier", "of an earlier run");
    for (const Arguments& wrong :
         std::vector<Arguments>{{"-m", "/nonexistent"}, {"--arena", "1"}, {"-c", "1"}}) {
      Arguments all{option, file};
      all.insert(all.end(), wrong.begin(), wrong.end());
      if (wrong[0] == "-m") {
        all.insert(all.end(), {"-p", "x"});
        EXPECT_EQ(tests::run_process(QWEN_PREFILL, all).status, 1);
      } else {
        EXPECT_EQ(run(all).status, 1);
      }
      EXPECT_EQ(std::filesystem::file_size(file), 17U) << option << " " << wrong[0];
    }
    EXPECT_EQ(run({"-n", "1", option, file}).status, 0);
    EXPECT_GT(std::filesystem::file_size(file), 17U);
  }
}

// Words of the summary, not of a bound that the run is its own measure of.
TEST_F(ProgramTest, TheSummaryNamesWhatLimited) {
  const std::string err = run({"-n", "1", "--arena", "25%"}).err;
  EXPECT_THAT(err,
              testing::ContainsRegex("\nlimit    [a-z ]+: of [0-9.]+ s, copying takes [0-9.]+ s "
                                     "and computing [0-9.]+ s; [0-9]+% of the time"));
  EXPECT_EQ(err.find("of its bound"), std::string::npos) << err;
}

// N of a message that ends in "OPTION N or more".
std::string named_minimum(const std::string& message, const std::string& option) {
  const std::string tail = " or more\n";
  const std::size_t at = message.rfind(option + " ");
  if (at == std::string::npos || !message.ends_with(tail)) return {};
  const std::size_t begin = at + option.size() + 1;
  return message.substr(begin, message.size() - tail.size() - begin);
}

// For both options: nothing fits, the message names the minimum, the minimum works and gives the
// same text, and a byte less does not work.
class MinimumBudget : public ProgramTest, public testing::WithParamInterface<std::string> {};

TEST_F(ProgramTest, NamesNeedNotBeUtf8) {
  std::ifstream in(test_data("models/tiny-qwen2-q4_k_m.gguf"), std::ios::binary);
  std::string model{std::istreambuf_iterator<char>(in), {}};
  const std::size_t name = model.find("tiny-qwen2-kjv");
  ASSERT_NE(name, std::string::npos);
  model[name + 5] = '\xff';
  const ProcessResult done = tests::run_process(
      QWEN_PREFILL, {"-q", "--device", "host", "-m", directory_.write("model.gguf", model), "-p",
                     "In", "-n", "1", "--stats", path("stats")});
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(read_json("stats")["model"]["name"], "tiny-\xef\xbf\xbdwen2-kjv");
}

TEST_P(MinimumBudget, IsNamedAndWorks) {
  const std::string option = GetParam();
  for (const Arguments& extra :
       std::vector<Arguments>{{}, {"--page", "64KiB"}, {"-ub", "4"}, {"--perplexity", "-c", "3"}}) {
    const auto with = [&](const std::string& size) {
      Arguments all{"-q", "-n", "4", "--stats", path("stats.json"), option, size};
      all.insert(all.end(), extra.begin(), extra.end());
      return run(all);
    };
    const ProcessResult refused = with("1");
    EXPECT_EQ(refused.status, 1);
    const std::string named = named_minimum(refused.err, option);
    ASSERT_NE(named, "") << refused.err;
    const std::uint64_t minimum = std::stoull(named);
    EXPECT_THAT(refused.err, testing::HasSubstr(named + " bytes ("));  // and for people

    const ProcessResult accepted = with(named);
    EXPECT_EQ(accepted.status, 0) << accepted.err;
    const json stats = read_json("stats.json");
    EXPECT_LE(stats["memory"]["peak_bytes"], stats["memory"]["budget_bytes"]);
    const json& held =
        option == "--vram" ? stats["memory"]["budget_bytes"] : stats["arena"]["bytes"];
    EXPECT_EQ(held, minimum);
    EXPECT_EQ(accepted.out, with("1GiB").out);
    EXPECT_EQ(with(std::to_string(minimum - 1)).status, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Options, MinimumBudget, testing::Values("--vram", "--arena"),
                         [](const auto& option) { return option.param.substr(2); });

TEST_F(ProgramTest, WritesTheLogitsOfThePrompt) {
  const Model model = open_model(test_data("models/tiny-qwen2-q4_k_m.gguf"));
  const auto prompt = model.tokenizer->encode("In the beginning God");
  ASSERT_EQ(run({"-q", "--logits", path("logits"), "--arena", "30%"}).status, 0);
  const std::vector<float> written = read_floats(directory_ / "logits");
  ASSERT_EQ(written.size(), prompt.size() * model.config.vocab_size);
  EXPECT_TRUE(written == prompt_logits(model, prompt));

  // Through a pipe, too, where they cannot be written in the order in which they come.
  for (const std::string name : {"-", "/dev/stdout"}) {
    const auto piped = tests::run_process(
        "/bin/sh", {"-c", "\"$0\" \"$@\" | cat >'" + path("piped") + "'", QWEN_PREFILL, "-m",
                    test_data("models/tiny-qwen2-q4_k_m.gguf"), "-p", "In the beginning God", "-n",
                    "2", "-q", "--arena", "30%", "--logits", name});
    EXPECT_TRUE(read_floats(directory_ / "piped") == written) << piped.err;
  }
}

TEST_F(ProgramTest, ReadsThePromptFromFiles) {
  const std::string expected = run({"-q", "-n", "4"}).out;
  const std::string model = test_data("models/tiny-qwen2-q4_k_m.gguf");
  const std::string text = directory_.write("prompt.txt", "In the beginning God");
  const std::string ids = directory_.write("ids.txt", "40 77\n258\t1783 1234 389\n");
  EXPECT_EQ(tests::run_process(QWEN_PREFILL, {"-m", model, "-f", text, "-n", "4", "-q"}).out,
            expected);
  EXPECT_EQ(tests::run_process(QWEN_PREFILL, {"-m", model, "--tokens", ids, "-n", "4", "-q"}).out,
            expected);
}

TEST_F(ProgramTest, WritesATraceOfStepsAndCopies) {
  ASSERT_EQ(run({"-q", "-n", "2", "--arena", "30%", "--trace", path("trace.json")}).status, 0);
  const json trace = read_json("trace.json");
  const json& events = trace.is_array() ? trace : trace["traceEvents"];
  EXPECT_GT(events.size(), 100U);
}

}  // namespace
}  // namespace tensor_pager::qwen
