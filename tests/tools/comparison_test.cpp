// SPDX-License-Identifier: Apache-2.0
// Predictions of pager_sim against prefills that pager_bench measured.
#include "comparison.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "../examples/child_process.hpp"
#include "../temporary_directory.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::pager_sim {
namespace {

using namespace prediction;
using testing::HasSubstr;

const std::string kModel = std::string(TEST_DATA_DIR) + "/models/tiny-qwen2-q4_k_m.gguf";

class ComparisonTest : public testing::Test {
 protected:
  // A prefill with everything resident on a machine of these rates.
  MeasuredPrefill resident(std::uint32_t prompt, double arithmetic, double weights_rate) const {
    MeasuredPrefill measured;
    measured.what = {.prompt = prompt, .granularity = KiB(4), .ubatch = 64, .link = 1e9};
    const PassCost cost = pass_cost(model_, measured.what);
    measured.tokens_per_second =
        prompt / (cost.operations / arithmetic + cost.weight_bytes / weights_rate);
    return measured;
  }

  tests::ProcessResult against(const std::string& file, const std::string& tolerance) const {
    return tests::run_process(PAGER_SIM,
                              {"-m", kModel, "--against", file, "--tolerance", tolerance});
  }

  static tests::ProcessResult predict(std::vector<std::string> arguments) {
    const std::vector<std::string> always = {"-m",      kModel, "-p",       "64",
                                             "--arena", "50%",  "--device", "host"};
    arguments.insert(arguments.begin(), always.begin(), always.end());
    return tests::run_process(PAGER_SIM, arguments);
  }

  const qwen::Model model_ = qwen::open_model(kModel);
  tests::TemporaryDirectory directory_;
};

TEST_F(ComparisonTest, RatesAreFoundFromSeveralPromptLengths) {
  const StepRates rates = fit_rates(
      model_, {resident(32, 5e11, 2e9), resident(128, 5e11, 2e9), resident(512, 5e11, 2e9)});
  EXPECT_NEAR(rates.arithmetic, 5e11, 1e8);
  EXPECT_NEAR(rates.weights_rate, 2e9, 1e6);
}

TEST_F(ComparisonTest, OneLengthGivesTheArithmeticRateAlone) {
  const StepRates rates = fit_rates(model_, {resident(128, 5e11, 1e30)});
  EXPECT_NEAR(rates.arithmetic, 5e11, 1e8);
  EXPECT_EQ(rates.weights_rate, 0);
}

TEST_F(ComparisonTest, WithoutResidentPassesTheRatesAreUnknown) {
  MeasuredPrefill copied = resident(128, 5e11, 2e9);
  copied.copied = KiB(4);
  EXPECT_THROW(fit_rates(model_, {copied}), qwen::Error);
}

// On any machine, however busy: bytes are a matter of decisions, not of time.
TEST_F(ComparisonTest, BytesAreThoseThatWereCopied) {
  const std::string file = directory_ / "rows.jsonl";
  std::ofstream rows(file);
  const auto measure = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(),
                     {"-q", "--device", "host", "-m", kModel, "-r", "1", "-o", "jsonl"});
    const tests::ProcessResult run = tests::run_process(PAGER_BENCH, arguments);
    ASSERT_EQ(run.status, 0) << run.err;
    rows << run.out;
  };
  measure({"-p", "64,128", "--arena", "100%", "--warm"});
  measure({"-p", "64,200", "--arena", "20%,60%"});
  measure({"-p", "64", "--arena", "50%", "--warm"});
  rows.close();

  const auto measured = read_measurements(file);
  ASSERT_EQ(measured.size(), 7U);
  const auto compared = compare(model_, fit_rates(model_, measured), 0, measured);
  ASSERT_EQ(compared.size(), 5U);  // those that copied
  for (const Comparison& row : compared) {
    EXPECT_TRUE(row.same_bytes()) << row.measured.what.prompt << " tokens, "
                                  << row.measured.arena.count << " bytes of arena: predicted "
                                  << row.predicted.prediction.copied.count << ", measured "
                                  << row.measured.copied.count;
  }
  const tests::ProcessResult shown = against(file, "1000000");
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("| pp200 | cold |"));
  const tests::ProcessResult strict = against(file, "0");
  EXPECT_EQ(strict.status, 1);
  EXPECT_THAT(strict.err, HasSubstr("predictions are off by more than 0%"));
}

TEST_F(ComparisonTest, NothingToPredictIsAnError) {
  const std::string file = directory_ / "rows.jsonl";
  std::ofstream(file) << tests::run_process(
                             PAGER_BENCH, {"-q", "--device", "host", "-m", kModel, "-r", "1", "-p",
                                           "32", "--warm", "-o", "jsonl"})
                             .out;
  const tests::ProcessResult run = against(file, "10");
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.err, HasSubstr("has 1 row, "));
  EXPECT_THAT(run.err, HasSubstr("everything resident in each, so there is nothing to predict"));
  // But the machine is known from it.
  const tests::ProcessResult machine = predict({"--machine", file});
  EXPECT_EQ(machine.status, 0) << machine.err;
  EXPECT_THAT(machine.out, HasSubstr("machine: fitted to the resident prefills in " + file));
}

TEST_F(ComparisonTest, WithoutAGpuThereIsNoneToMeasure) {
  const tests::ProcessResult run = tests::run_process(
      "/bin/sh", {"-c", "CUDA_VISIBLE_DEVICES= exec \"$0\" \"$@\"", PAGER_SIM, "-m", kModel, "-p",
                  "64", "--arena", "100%", "--machine", "this"});
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.err, HasSubstr("--machine this: no GPU was found; use --device host"));
  EXPECT_EQ(run.err.find("cuda"), std::string::npos) << run.err;
}

TEST_F(ComparisonTest, PredictionsSayForWhichMachine) {
  EXPECT_THAT(predict({"--machine", "h200"}).out, HasSubstr("machine: an H200"));
  EXPECT_THAT(predict({}).out, HasSubstr("machine: the processors here, measured now"));
  EXPECT_THAT(predict({"--link-rate", "1", "--arithmetic", "1"}).out,
              HasSubstr("machine: as the options say"));
  const std::string file = directory_ / "machine.json";
  std::ofstream(file) << R"({"backends": "host", "calibrated_link_gb_per_s": 3.5,
    "calibrated_memory_gb_per_s": 12, "calibrated_tflops": 0.125, "doubt": ""})";
  const std::string out = predict({"--machine", file}).out;
  EXPECT_THAT(out, HasSubstr("machine: as calibrated in " + file + "; weights read at 12 GB/s"));
  EXPECT_THAT(out, HasSubstr("| 3.5 | 0.125 |"));
}

// The tool's own defaults, with pages so large that a tenth of this model is too little.
TEST_F(ComparisonTest, AListGoesOnBehindWhatDoesNotFit) {
  const tests::ProcessResult run =
      tests::run_process(PAGER_SIM, {"-m", kModel, "-p", "2048", "-o", "json"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("pp2048 with --arena 10% is left out: --arena"));
  EXPECT_GE(nlohmann::json::parse(run.out).size(), 1U);
}

TEST_F(ComparisonTest, OtherFilesAreNamed) {
  const auto says = [&](const std::string& file) { return against(file, "10").err; };
  EXPECT_THAT(says(directory_ / "none"), HasSubstr("cannot open"));
  std::ofstream(directory_ / "text") << "not JSON\n";
  EXPECT_THAT(says(directory_ / "text"), HasSubstr("not output of pager_bench"));
  std::ofstream(directory_ / "empty").close();
  EXPECT_THAT(says(directory_ / "empty"), HasSubstr("not output of pager_bench"));
  EXPECT_THAT(says(directory_ / "."), HasSubstr("Is a directory"));
  std::ofstream(directory_ / "other") << "[{\"n_prompt\": 5}]";
  EXPECT_THAT(says(directory_ / "other"), HasSubstr("not output of this pager_bench"));
}

// Of a file that somebody changed: what cannot be is named, and nothing is divided by it.
TEST_F(ComparisonTest, NumbersThatCannotBeAreNamed) {
  const std::string prefill = R"({"backends": "host", "n_prompt": 64, "n_gen": 0, "warm": true,
    "arena_bytes": 4194304, "page_bytes": 4096, "n_ubatch": 64, "copied_bytes": 0,
    "median_ts": 100.0, "link_limit_gb_per_s": 0, "calibrated_link_gb_per_s": 3.5,
    "calibrated_memory_gb_per_s": 12, "calibrated_tflops": 0.125})";
  const std::string generation = R"({"backends": "host", "n_prompt": 0, "n_gen": 4, "n_depth": 0,
    "n_parallel": 1, "arena_bytes": 4194304, "page_bytes": 4096, "copied_bytes": 0,
    "on_cpu_bytes": 0, "place": "gpu", "median_ts": 100.0, "cpu_layers": [], "prefetch_depth": 0,
    "placement_rates": {"link": {"alone": 1e9, "together": 1e9},
      "cpu": {"alone": 1e9, "together": 1e9}, "cpu_kernels": {}, "gpu_memory": 1e9,
      "gpu_arithmetic": 0, "gpu_step": 0, "handover": 0}})";
  const auto says = [&](const std::string& row, const std::string& field, const auto& value) {
    nlohmann::ordered_json changed = nlohmann::ordered_json::parse(row);
    changed[field] = value;
    const std::string file = directory_ / "changed";
    std::ofstream(file) << changed.dump() << '\n';
    const tests::ProcessResult run = against(file, "10");
    EXPECT_EQ(run.status, 1) << field;
    return run.err;
  };
  const std::string sane = "there is nothing to predict";
  EXPECT_THAT(says(prefill, "n_gen", 0), HasSubstr(sane));
  EXPECT_THAT(says(generation, "n_prompt", 0), HasSubstr(sane));
  for (const char* field : {"n_parallel", "page_bytes", "arena_bytes"}) {
    const std::string message = fmt::format("{} is 0, but must be from 1 to", field);
    EXPECT_THAT(says(generation, field, 0), HasSubstr(message));
  }
  EXPECT_THAT(says(generation, "n_parallel", -3), HasSubstr("n_parallel is -3, but must be"));
  EXPECT_THAT(says(generation, "n_parallel", 1.5), HasSubstr("n_parallel is 1.5, but must be"));
  EXPECT_THAT(says(generation, "n_gen", 1e12), HasSubstr("n_gen is "));
  EXPECT_THAT(says(generation, "median_ts", 0), HasSubstr("median_ts is 0, but must be more"));
  for (const char* field : {"n_ubatch", "page_bytes"}) {
    EXPECT_THAT(says(prefill, field, 0), HasSubstr("is 0, but must be from 1 to")) << field;
  }
  for (const char* field : {"median_ts", "calibrated_link_gb_per_s"}) {
    EXPECT_THAT(says(prefill, field, 0), HasSubstr("is 0, but must be more than 0")) << field;
  }
}

}  // namespace
}  // namespace tensor_pager::pager_sim
