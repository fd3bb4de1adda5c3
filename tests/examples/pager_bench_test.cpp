// SPDX-License-Identifier: Apache-2.0
// pager_bench as its users run it, on the host device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

using nlohmann::json;
using testing::HasSubstr;

tests::ProcessResult bench(std::vector<std::string> arguments) {
  const std::vector<std::string> always = {
      "--device", "host", "-m", test_data("models/tiny-qwen2-q4_k_m.gguf"), "-q", "-r", "3"};
  arguments.insert(arguments.begin(), always.begin(), always.end());
  return tests::run_process(PAGER_BENCH, arguments);
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) result.push_back(line);
  return result;
}

TEST(PagerBench, ListsMakeACrossProduct) {
  const auto run = bench(
      {"-p", "16,24", "-n", "0,3", "--arena", "30%,100%", "--link-rate", "0,2", "-o", "json"});
  ASSERT_EQ(run.status, 0) << run.err;
  const json rows = json::parse(run.out);
  ASSERT_EQ(rows.size(), 2U * 2U * 3U);  // arenas, link rates; two prompts and one generation
  std::vector<std::pair<int, int>> tests;
  for (std::size_t i = 0; i < 3; ++i) tests.emplace_back(rows[i]["n_prompt"], rows[i]["n_gen"]);
  EXPECT_THAT(tests, testing::ElementsAre(std::pair(16, 0), std::pair(24, 0), std::pair(0, 3)));
  EXPECT_EQ(rows[3]["link_limit_gb_per_s"], 2.0);
  EXPECT_LT(rows[0]["arena_bytes"], rows[11]["arena_bytes"]);
}

TEST(PagerBench, ColdRunsCopyEverythingAndWarmOnesWhatDoesNotFit) {
  const auto row = [](const char* mode, const char* arena, const char* link = "1000") {
    const auto run =
        bench({"-p", "32", "--arena", arena, mode, "--link-rate", link, "-o", "jsonl"});
    EXPECT_EQ(run.status, 0) << run.err;
    return json::parse(run.out);
  };
  const json cold = row("--cold", "100%");
  const json warm = row("--warm", "100%");
  const json half = row("--warm", "50%");
  const auto copied = [](const json& r) { return r["copied_bytes"].get<double>(); };
  EXPECT_GT(copied(cold), 0.95 * cold["model_size"].get<double>());
  EXPECT_EQ(cold["copied_bytes"], cold["optimal_bytes"]);
  EXPECT_EQ(copied(warm), 0);
  EXPECT_GT(copied(half), 0.4 * copied(cold));
  EXPECT_LT(copied(half), 0.7 * copied(cold));
  // Without a link to imitate, what fits is the file itself.
  const json in_place = row("--cold", "100%", "0");
  EXPECT_EQ(copied(in_place), 0);
  EXPECT_EQ(in_place["optimal_bytes"], cold["optimal_bytes"]);
  EXPECT_EQ(in_place["bound_link_s"], 0);
}

TEST(PagerBench, FieldsOfARowAgree) {
  const auto run = bench({"-p", "40", "--arena", "40%", "--link-rate", "0.05", "-o", "jsonl"});
  ASSERT_EQ(run.status, 0) << run.err;
  const json row = json::parse(run.out);
  const double median = row["median_ns"].get<double>() / 1e9;
  EXPECT_EQ(row["samples_ns"].size(), 3U);
  EXPECT_NEAR(row["median_ts"].get<double>(), 40 / median, 1e-3 * 40 / median);
  EXPECT_GE(row["copied_bytes"], row["optimal_bytes"]);
  EXPECT_LE(row["peak_bytes"], row["vram_bytes"]);
  // A link this slow is what the run waits for, and what bounds it.
  EXPECT_NEAR(row["calibrated_link_gb_per_s"].get<double>(), 0.05, 1e-9);
  EXPECT_NEAR(row["bound_link_s"].get<double>(), row["optimal_bytes"].get<double>() / 0.05e9, 1e-6);
  EXPECT_GT(row["bound_fraction"].get<double>(), 0.1);  // on a machine that is busy otherwise
  EXPECT_LT(row["bound_fraction"].get<double>(), 1.05);
  EXPECT_GT(row["stall_fraction"].get<double>(), 0);
  EXPECT_LT(row["stall_fraction"].get<double>(), 1);
}

TEST(PagerBench, TablesHaveARowForEachCase) {
  const auto md = bench({"-p", "16", "-n", "2"});
  ASSERT_EQ(md.status, 0) << md.err;
  EXPECT_EQ(std::ranges::count_if(lines(md.out), [](const auto& l) { return l.starts_with('|'); }),
            4);
  EXPECT_THAT(md.out, HasSubstr("| pp16 |"));
  EXPECT_THAT(md.out, HasSubstr("| tg2 |"));
  const auto csv = bench({"-p", "16", "-n", "2", "-o", "csv"});
  ASSERT_EQ(lines(csv.out).size(), 3U);
  for (const std::string& line : lines(csv.out)) {
    EXPECT_EQ(std::ranges::count(line, ','), std::ranges::count(lines(csv.out)[0], ','));
  }
}

// A pass reads each weight once, however many sequences it serves.
TEST(PagerBench, SequencesShareTheirWeights) {
  const auto run =
      bench({"-p", "0", "-n", "3", "-np", "1,4", "-d", "0,70", "--arena", "30%", "-o", "jsonl"});
  ASSERT_EQ(run.status, 0) << run.err;
  std::vector<json> rows;
  for (const std::string& line : lines(run.out)) rows.push_back(json::parse(line));
  ASSERT_EQ(rows.size(), 4U);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const json& row = rows[i];
    const int sequences = i % 2 == 0 ? 1 : 4;
    EXPECT_EQ(row["n_parallel"], sequences);
    EXPECT_EQ(row["n_depth"], i < 2 ? 0 : 70);
    const double seconds = row["median_ns"].get<double>() / 1e9;
    EXPECT_NEAR(row["median_ts"].get<double>() * seconds, 3 * sequences, 1e-3);
    EXPECT_EQ(row["copied_bytes"], rows[0]["copied_bytes"]);
    EXPECT_LE(row["peak_bytes"], row["vram_bytes"]);
  }
  const auto operations = [&](std::size_t i) {
    return rows[i]["bound_compute_s"].get<double>() * rows[i]["calibrated_tflops"].get<double>();
  };
  EXPECT_NEAR(operations(1), 4 * operations(0), 0.05 * operations(1));
  EXPECT_GT(operations(2), 1.01 * operations(0));  // attention to what came before
  EXPECT_THAT(bench({"-p", "0", "-n", "3", "-np", "4", "-d", "70"}).out, HasSubstr("| tg3@70x4 |"));
  EXPECT_EQ(bench({"-n", "3", "-np", "0"}).status, 2);
}

TEST(PagerBench, PlacesAreThoseOfAllSequences) {
  const auto run = bench({"-p", "0", "-n", "3", "-np", "1,4,1", "--arena", "40%", "--place", "auto",
                          "--explain", "-o", "jsonl"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("generation, 4 tokens a pass"));
  std::vector<json> rates;
  for (const std::string& line : lines(run.out)) {
    rates.push_back(json::parse(line)["placement_rates"]);
  }
  ASSERT_EQ(rates.size(), 3U);
  EXPECT_EQ(rates[0], rates[2]);  // measured once
  for (const auto& [type, kernel] : rates[0]["cpu_kernels"].items()) {
    EXPECT_EQ(kernel["arithmetic"], 0) << type;
    EXPECT_GT(rates[1]["cpu_kernels"][type]["arithmetic"], 0) << type;
  }
}

TEST(PagerBench, PlacesArePartOfARow) {
  const auto row = [](const char* place) {
    const auto run = bench(
        {"-p", "0", "-n", "4", "--arena", "40%", "--place", place, "--explain", "-o", "jsonl"});
    EXPECT_EQ(run.status, 0) << run.err;
    EXPECT_THAT(run.err, HasSubstr("generation, 1 token a pass"));
    return json::parse(run.out);
  };
  const json device = row("gpu");
  EXPECT_EQ(device["on_cpu_bytes"], 0);
  const json share = row("60%");
  const json all = row("cpu");
  EXPECT_GT(share["on_cpu_bytes"], 0);
  EXPECT_GT(all["on_cpu_bytes"], share["on_cpu_bytes"]);
  EXPECT_LT(all["copied_bytes"], device["copied_bytes"]);
  EXPECT_EQ(row("auto")["limit"], "link and CPU");
  for (const json& r : {device, share, all}) {
    EXPECT_GT(r["predicted_s"], 0);
    EXPECT_GT(r["bound_joint_s"], 0);
    EXPECT_LE(r["bound_joint_s"], r["predicted_s"]);
  }
  EXPECT_EQ(bench({"--place", "101%"}).status, 2);
  EXPECT_THAT(bench({"--place", "here"}).err, HasSubstr("--place \"here\" is not auto"));
}

TEST(PagerBench, CalibrationNeedsNoModel) {
  const auto calibrate = [](const std::string& format) {
    return tests::run_process(PAGER_BENCH, {"--device", "host", "--calibrate", "-o", format});
  };
  const auto line = calibrate("md");
  EXPECT_EQ(line.status, 0) << line.err;
  EXPECT_THAT(line.out, HasSubstr("GB/s, memory "));
  const json rates = json::parse(calibrate("json").out);
  EXPECT_EQ(rates["backends"], "host");
  for (const char* rate : {"calibrated_link_gb_per_s", "calibrated_memory_gb_per_s"}) {
    EXPECT_GT(rates[rate], 0) << rate;
  }
  EXPECT_EQ(tests::run_process(PAGER_BENCH, {"-p", "16"}).status, 2);
}

TEST(PagerBench, AListGoesOnBehindWhatDoesNotFit) {
  const auto run = bench({"-p", "16", "--arena", "1KiB,100%", "-o", "json"});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(json::parse(run.out).size(), 1U);
  EXPECT_THAT(run.err, HasSubstr("pp16 with --arena 1024 is left out: --arena"));
  const auto none = bench({"-p", "16", "--arena", "1KiB,2KiB"});
  EXPECT_EQ(none.status, 1);
  EXPECT_THAT(none.err, HasSubstr("none of the 2 cases can be run"));
}

TEST(PagerBench, ARowNamesItsLimitAndItsDoubts) {
  const auto slow = bench({"-p", "32", "--arena", "40%", "--link-rate", "0.01", "-o", "jsonl"});
  ASSERT_EQ(slow.status, 0) << slow.err;
  EXPECT_EQ(json::parse(slow.out)["limit"], "link");
  const auto run = bench({"-p", "64", "-n", "8", "--arena", "100%", "--warm", "-o", "json"});
  for (const json& row : json::parse(run.out)) {
    const double bound =
        std::max({row["bound_link_s"].get<double>(), row["bound_memory_s"].get<double>(),
                  row["bound_compute_s"].get<double>()});
    const double fraction = row["bound_fraction"];
    EXPECT_GT(bound, 0);
    EXPECT_THAT(row["limit"].get<std::string>(), testing::AnyOf("memory", "arithmetic"));
    if (fraction > 1.02) {
      EXPECT_THAT(row["doubt"].get<std::string>(), HasSubstr("faster than the machine's rates"));
    }
  }
  const auto table = bench({"-p", "16"});
  EXPECT_THAT(table.out, HasSubstr("| of bound % | limit |"));
}

TEST(PagerBench, CalibrationAndErrors) {
  EXPECT_THAT(bench({"--help"}).out, HasSubstr("--link-rate"));
  EXPECT_EQ(bench({"-p", "x"}).status, 2);
  EXPECT_EQ(bench({"--arena", "0%"}).status, 2);
  EXPECT_EQ(bench({"--cold", "--warm"}).status, 2);
  const auto small = bench({"-p", "16", "--arena", "1KiB"});
  EXPECT_EQ(small.status, 1);
  EXPECT_THAT(small.err, HasSubstr("--arena"));
  const auto nothing = bench({"-p", "0", "-n", "0"});
  EXPECT_EQ(nothing.status, 2);
  EXPECT_THAT(nothing.err, HasSubstr("neither -p nor -n"));
  const auto long_prompt = bench({"-p", "1000000"});
  EXPECT_EQ(long_prompt.status, 1);
  EXPECT_THAT(long_prompt.err, HasSubstr("context"));
}

}  // namespace
}  // namespace tensor_pager::qwen
