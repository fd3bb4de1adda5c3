// SPDX-License-Identifier: Apache-2.0
// Predictions of generation against tokens that pager_bench generated, and against what is known of
// an H200.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../examples/child_process.hpp"
#include "../loaders/made_up_graph.hpp"
#include "../temporary_directory.hpp"
#include "measured_tokens.hpp"
#include "prediction/generation.hpp"
#include "prediction/machine.hpp"
#include "prediction/tokens.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::pager_sim {
namespace {

using namespace prediction;
using nlohmann::json;
using testing::HasSubstr;

const std::string kModel = std::string(TEST_DATA_DIR) + "/models/tiny-qwen2-q4_k_m.gguf";

loaders::PlacementRates some_rates() {
  return {.link = {2e9, 1.5e9},
          .cpu = {4e9, 3e9},
          .cpu_kernels = kernels_of_all_types(),
          .gpu_memory = 5e10,
          .gpu_step = 0,
          .handover = 0};
}

class TokensComparisonTest : public testing::Test {
 protected:
  // Of a machine whose device reads at `memory`, and whose processors take `slower` times as long
  // as its rates say.
  MeasuredTokens resident(double memory, double slower, std::vector<std::uint32_t> layers) const {
    MeasuredTokens row;
    row.what = {.tokens = 4,
                .granularity = KiB(4),
                .given = GivenPlaces{.cpu_layers = std::move(layers)},
                .rates = some_rates()};
    TokensCase real = row.what;
    real.rates.gpu_memory = memory;
    real.rates.cpu.alone /= slower;
    real.rates.cpu.together /= slower;
    const PredictedTokens took = predict_placed_tokens(model_, real);
    row.tokens_per_second = took.tokens_per_second();
    row.on_cpu = took.on_cpu;
    return row;
  }
  static tests::ProcessResult predict(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"-m", kModel, "-p", "0", "--device", "host"});
    return tests::run_process(PAGER_SIM, arguments);
  }
  static json rows(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"-o", "json"});
    const tests::ProcessResult run = predict(arguments);
    EXPECT_EQ(run.status, 0) << run.err;
    return json::parse(run.out);
  }
  // Rows of pager_bench.
  std::string measure(const std::vector<std::vector<std::string>>& runs) const {
    const std::string file = directory_ / "rows.jsonl";
    std::ofstream out(file);
    for (std::vector<std::string> arguments : runs) {
      arguments.insert(arguments.end(), {"-q", "--device", "host", "-m", kModel, "-r", "1", "-p",
                                         "0", "-o", "jsonl"});
      const tests::ProcessResult run = tests::run_process(PAGER_BENCH, arguments);
      EXPECT_EQ(run.status, 0) << run.err;
      out << run.out;
    }
    return file;
  }
  static tests::ProcessResult against(const std::string& file, const std::string& tolerance) {
    return tests::run_process(PAGER_SIM,
                              {"-m", kModel, "--against", file, "--tolerance", tolerance});
  }

  const qwen::Model model_ = qwen::open_model(kModel);
  tests::TemporaryDirectory directory_;
};

TEST_F(TokensComparisonTest, ResidentRowsTellTheRates) {
  const std::vector<MeasuredTokens> device = {resident(3e10, 1, {})};
  EXPECT_NEAR(fit_tokens(model_, device).gpu_memory, 3e10, 3e7);
  EXPECT_EQ(fit_tokens(model_, device).cpu_slower, 1);
  const TokenRates both = fit_tokens(model_, {resident(3e10, 1.25, {}), resident(3e10, 1.25, {0})});
  EXPECT_NEAR(both.gpu_memory, 3e10, 3e7);
  EXPECT_NEAR(both.cpu_slower, 1.25, 0.01);
  const loaders::PlacementRates rates = with_fitted(device.front().what, both);
  EXPECT_EQ(rates.gpu_memory, both.gpu_memory);
  EXPECT_NEAR(rates.cpu.alone, 4e9 / 1.25, 4e7);
}

TEST_F(TokensComparisonTest, WithoutAResidentRowTheyAreUnknown) {
  MeasuredTokens copied = resident(3e10, 1, {});
  copied.copied = KiB(4);
  EXPECT_THROW(fit_tokens(model_, {copied, resident(3e10, 1, {0})}), qwen::Error);
}

// Processors that are the device are as fast as it.
TEST_F(TokensComparisonTest, OnTheHostAllRatesAreOffByOneFactor) {
  MeasuredTokens row = resident(2e9, 1, {});
  row.what.host = true;
  row.what.rates.gpu_memory = 4e9;
  const TokenRates fitted = fit_tokens(model_, {row});
  EXPECT_NEAR(with_fitted(row.what, fitted).cpu.alone, 2e9, 2e7);
}

// On any machine, however busy: bytes are a matter of decisions.
TEST_F(TokensComparisonTest, BytesAreThoseThatWereCopied) {
  std::vector<std::vector<std::string>> runs = {{"-n", "8", "--arena", "100%"}};
  for (const char* place : {"gpu", "50%", "cpu"}) {
    runs.push_back({"-n", "8,12", "--arena", "25%,60%", "--place", place});
  }
  // Several sequences have rates of their own; what begins behind a long prompt is left out.
  runs.push_back({"-n", "4", "-np", "3", "--arena", "100%,25%"});
  runs.push_back({"-n", "4", "-d", "64", "--arena", "25%"});
  const std::string file = measure(runs);
  const std::vector<MeasuredTokens> measured = read_tokens(file).measured;
  ASSERT_EQ(measured.size(), 15U);
  const TokenRates fitted = fit_tokens(model_, measured);
  int with_cpu = 0;
  for (const TokensComparison& row : compare_tokens(model_, fitted, {}, measured)) {
    const double copied = static_cast<double>(row.measured.copied.count);
    const double predicted =
        row.measured.what.tokens * static_cast<double>(row.predicted.token.copied.count);
    EXPECT_NEAR(predicted, copied, row.measured.what.tokens)  // the mean is rounded down
        << row.measured.place << ", " << to_string(row.measured.arena);
    EXPECT_EQ(row.predicted.on_cpu, row.measured.on_cpu);
    with_cpu += row.measured.on_cpu > Bytes{0} ? 1 : 0;
  }
  EXPECT_GE(with_cpu, 6);
  const tests::ProcessResult shown = against(file, "1000000");
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("rates fitted to generation with everything resident"));
  EXPECT_THAT(shown.out, HasSubstr("| tg8 | 50% |"));
  EXPECT_THAT(shown.out, HasSubstr("| tg4x3 | gpu |"));
  const tests::ProcessResult strict = against(file, "0");
  EXPECT_EQ(strict.status, 1);
  EXPECT_THAT(strict.err, HasSubstr("predictions are off by more than 0%"));
  // The machine is known from it, too.
  const tests::ProcessResult machine = predict({"-n", "8", "--machine", file});
  EXPECT_EQ(machine.status, 0) << machine.err;
  EXPECT_THAT(machine.out, HasSubstr("machine: fitted to what was resident in " + file));
  const tests::ProcessResult three = predict({"-n", "8", "-np", "3", "--machine", file});
  EXPECT_THAT(three.out, HasSubstr("machine: fitted to what was resident in " + file));
  EXPECT_THAT(three.out, HasSubstr("| tg8x3 | gpu |"));
  // Nothing was measured with five.
  EXPECT_THAT(predict({"-n", "8", "-np", "5", "--machine", file}).out,
              HasSubstr("machine: as calibrated in " + file));
}

// A pass copies what it would for one; how long processors take with several tokens is known of
// what was measured with several.
TEST_F(TokensComparisonTest, SequencesShareAPass) {
  const std::vector<std::string> common{"-n",      "4",       "--arena",   "30%",
                                        "--place", "gpu,cpu", "--machine", "h200"};
  const json one = rows(common);
  std::vector<std::string> with_eight = common;
  with_eight.insert(with_eight.end(), {"-np", "8"});
  const json eight = rows(with_eight);
  ASSERT_EQ(eight.size(), 2U);
  for (std::size_t i = 0; i < eight.size(); ++i) {
    EXPECT_EQ(eight[i]["n_parallel"], 8);
    EXPECT_EQ(eight[i]["copied_bytes"], one[i]["copied_bytes"]);
    EXPECT_GT(eight[i]["tokens_per_s"], one[i]["tokens_per_s"]);
    EXPECT_LE(eight[i]["tokens_per_s"], 8 * one[i]["tokens_per_s"].get<double>());
  }
  EXPECT_THAT(predict({"-n", "4", "-np", "8", "--place", "cpu", "--machine", "h200"}).err,
              HasSubstr("how fast these processors multiply several tokens is not known"));
  EXPECT_EQ(predict({"-n", "4", "-np", "8", "--place", "gpu", "--machine", "h200", "-q"}).err, "");
}

TEST_F(TokensComparisonTest, WhatHasNoPredictionIsLeftOutAndSaid) {
  const std::string file = measure({{"-n", "2", "--arena", "40%,100%", "-np", "1,2", "-d", "0,5"}});
  const GenerationRows rows = read_tokens(file);
  EXPECT_EQ(rows.measured.size(), 4U);
  EXPECT_EQ(rows.left_out, 4U);
  const tests::ProcessResult shown = against(file, "1000000");
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_THAT(shown.err, HasSubstr("left out: 4 rows of generation behind a prompt"));
}

TEST_F(TokensComparisonTest, NothingToPredictIsAnError) {
  const tests::ProcessResult run = against(measure({{"-n", "2", "--arena", "100%"}}), "10");
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.err, HasSubstr("has 1 row, "));
}

TEST_F(TokensComparisonTest, ListsMakeACrossProduct) {
  const json all = rows({"-n", "4,8", "--arena", "30%,100%", "--place", "gpu,50%,auto",
                         "--link-rate", "1,2", "--machine", "h200"});
  ASSERT_EQ(all.size(), 2U * 2U * 3U * 2U);
  EXPECT_EQ(all[0]["n_gen"], 4);
  EXPECT_EQ(all[0]["place"], "gpu");
  EXPECT_EQ(all[1]["place"], "50%");
  EXPECT_EQ(all[2]["place"], "auto");
  EXPECT_EQ(all[0]["link_gb_per_s"], 1.0);
  EXPECT_EQ(all[0]["on_cpu_bytes"], 0);
  EXPECT_GT(all[1]["on_cpu_bytes"], 0);
  // A slow link beside fast processors.
  EXPECT_GT(all[2]["tokens_per_s"], all[0]["tokens_per_s"]);
  EXPECT_GE(all[2]["tokens_per_s"].get<double>(), 0.95 * all[1]["tokens_per_s"].get<double>());
  for (const json& row : all) {
    const double parts = row["device_s"].get<double>() + row["cpu_s"].get<double>() +
                         row["handover_s"].get<double>() + row["stall_s"].get<double>();
    EXPECT_NEAR(parts, row["seconds"].get<double>(), 0.02 * parts);
  }
}

TEST_F(TokensComparisonTest, OptionsReplaceRatesOfTheMachine) {
  const auto speed = [](std::vector<std::string> more) {
    more.insert(more.end(), {"-n", "4", "--machine", "h200"});
    return rows(more)[0]["tokens_per_s"].get<double>();
  };
  const std::vector<std::string> resident = {"--arena", "100%"};
  const auto with = [](std::vector<std::string> to, const std::vector<std::string>& more) {
    to.insert(to.end(), more.begin(), more.end());
    return to;
  };
  EXPECT_GT(speed(resident), 1.5 * speed(with(resident, {"--weights-rate", "0.5"})));
  const std::vector<std::string> cpu = {"--arena", "100%", "--place", "cpu"};
  EXPECT_GT(speed(with(cpu, {"--cpu-rate", "10"})), 1.5 * speed(with(cpu, {"--cpu-rate", "1"})));
  EXPECT_THAT(predict({"-n", "4", "--place", "here"}).err, HasSubstr("--place \"here\""));
  EXPECT_THAT(predict({"-n", "1000000"}).err, HasSubstr("-p or -n asks for 1000001 positions"));
}

// docs/performance.md, 2026-11-27, generation.
TEST(TokensOfAnH200, AreNearWhatWasMeasured) {
  const tests::MadeUpModel model = tests::made_up_32b();
  const Machine machine = h200();
  struct Row {
    Bytes arena;
    std::optional<double> share;
    double measured;
  };
  for (const Row& row : {Row{GiB(20), 0.0, 96.0}, Row{MiB(9472), 0.0, 5.5}, Row{GiB(8), 0.0, 4.9},
                         Row{GiB(2), 0.0, 3.09}, Row{MiB(9472), {}, 9.7}, Row{GiB(8), {}, 8.0},
                         Row{GiB(2), {}, 5.96}}) {
    const loaders::Placement placed =
        loaders::place(model.graph, model.tensors, machine.generation,
                       {.arena = row.arena, .page = MiB(16), .cpu_share = row.share});
    const PredictedGeneration token =
        predict_tokens(model.graph, model.tensors, placed.places,
                       {.layout = {model.bytes(), MiB(16)},
                        .arena = row.arena,
                        .policy = {.prefetch_depth = placed.prefetch_depth},
                        .rates = machine.generation,
                        .map_seconds = machine.map_seconds},
                       32);
    EXPECT_NEAR(1 / token.seconds, row.measured, 0.15 * row.measured)
        << to_string(row.arena) << (row.share ? ", on the device" : ", placed");
  }
}

}  // namespace
}  // namespace tensor_pager::pager_sim
