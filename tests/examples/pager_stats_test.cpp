// SPDX-License-Identifier: Apache-2.0
// pager_stats over a file that qwen_prefill wrote.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

using nlohmann::json;
using testing::ContainsRegex;
using testing::HasSubstr;
using tests::ProcessResult;

class PagerStats : public testing::Test {
 protected:
  void SetUp() override {
    write_stats("small", "25%");
    write_stats("large", "60%");
  }

  void write_stats(const std::string& name, const std::string& arena) const {
    const ProcessResult run = tests::run_process(
        QWEN_PREFILL,
        {"-q", "--device", "host", "-m", test_data("models/tiny-qwen2-q4_k_m.gguf"), "-p",
         "In the beginning", "-n", "3", "--arena", arena, "--stats", path(name)});
    ASSERT_EQ(run.status, 0) << run.err;
  }
  std::string path(const std::string& name) const { return directory_ / name; }
  json read(const std::string& name) const {
    std::ifstream in(path(name));
    return json::parse(in);
  }
  static ProcessResult stats(const std::vector<std::string>& arguments) {
    return tests::run_process(PAGER_STATS, arguments);
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(PagerStats, JsonHasEveryFieldOfTheFile) {
  const ProcessResult run = stats({path("small"), "--json"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(json::parse(run.out), read("small"));
}

// By the rules of the format and of OpenMetrics' names: families in one piece, with HELP and TYPE;
// counters, and only they, end in _total; units are seconds, bytes and ratios.
TEST_F(PagerStats, PrometheusHasEveryNumber) {
  const ProcessResult run = stats({path("small"), "--prometheus"});
  ASSERT_EQ(run.status, 0) << run.err;
  const json file = read("small");
  const std::string labels = "{model=\"" + file["model"]["name"].get<std::string>() +
                             "\",device=\"" + file["device"]["name"].get<std::string>() + "\"} ";
  std::multiset<double> expected;
  for (const auto& [section, fields] : file.items()) {
    for (const auto& [name, value] : fields.items()) {
      if (value.is_number()) {
        expected.insert(value.get<double>() * (name.ends_with("gb_per_s") ? 1e9 : 1));
      }
    }
  }
  std::multiset<double> printed;
  std::set<std::string> names;
  std::istringstream in(run.out);
  for (std::string help, type, sample; std::getline(in, help) && std::getline(in, type);) {
    ASSERT_TRUE(std::getline(in, sample));
    const std::string name = sample.substr(0, sample.find('{'));
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_TRUE(help.starts_with("# HELP " + name + " ") && help.ends_with('.')) << help;
    const bool total = name.ends_with("_total");
    EXPECT_EQ(type, "# TYPE " + name + (total ? " counter" : " gauge"));
    EXPECT_FALSE(name.ends_with("_s") || name.find("_gb") != std::string::npos) << name;
    ASSERT_TRUE(sample.starts_with(name + labels)) << sample;
    printed.insert(std::stod(sample.substr(name.size() + labels.size())));
  }
  EXPECT_EQ(printed, expected);
  EXPECT_THAT(
      names, testing::IsSupersetOf({"tensor_pager_pages_hits_total", "tensor_pager_h2d_bytes_total",
                                    "tensor_pager_stall_seconds_total"}));
}

TEST_F(PagerStats, TableComputesSharesFromTheCounters) {
  const ProcessResult run = stats({path("small")});
  ASSERT_EQ(run.status, 0) << run.err;
  const json pages = read("small")["pages"];
  const double hits = pages["hits"];
  const double accesses = hits + pages["misses"].get<double>();
  std::ostringstream share;
  share.precision(1);
  share << std::fixed << 100 * hits / accesses << "% hits";
  EXPECT_THAT(run.out, HasSubstr(share.str()));
  EXPECT_THAT(run.out, HasSubstr("tiny-qwen2-kjv"));
}

TEST_F(PagerStats, DifferenceShowsWhatChanged) {
  const ProcessResult run = stats({path("small"), "--diff", path("large")});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, ContainsRegex("arena\\.bytes +[0-9.]+ KiB +[0-9.]+ MiB +\\+1[34][0-9]\\."));
  EXPECT_THAT(run.out, ContainsRegex("model\\.tensors +74 +74 *\n"));
}

TEST_F(PagerStats, FilesThatAreNoneAreOneLine) {
  const auto expect = [](const std::vector<std::string>& arguments, int status, const char* says) {
    const ProcessResult run = stats(arguments);
    EXPECT_EQ(run.status, status);
    EXPECT_THAT(run.err, HasSubstr(says));
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
  };
  expect({path("nothing")}, 1, "cannot open");
  expect({test_data("models/tiny-qwen2-q4_k_m.gguf")}, 1, "not JSON");
  const std::string folder = std::filesystem::path(path("nothing")).parent_path();
  expect({folder}, 1, "Is a directory; give what qwen_prefill --stats FILE wrote");
  expect({path("small"), "--diff", folder}, 1, "Is a directory");
  expect({path("small"), "--trace", folder, "--html", path("page")}, 1,
         "Is a directory; give what qwen_prefill --trace FILE wrote");
  expect({path("small"), "--trace", path("large"), "--html", path("small")}, 2, "which FILE reads");
  expect({path("small"), "--trace", path("large"), "--html", path("large")}, 2,
         "which --trace reads");
  expect({"--pid", "1", "--watch", "--interval", "nan"}, 2, "is not from 0.01 to 3600");
  std::ofstream(path("other")) << R"({"model": {}})";
  expect({path("other")}, 1, "no section \"device\"");
  expect({}, 2, "FILE");
  expect({"--pid", "--watch"}, 2, "--pid has no value: the option --watch follows");
  expect({path("small"), "--diff", "--json"}, 2, "--diff has no value");
  expect({"--pid"}, 2, "--pid has no value; give one");
  expect({path("small"), "--json", "--prometheus"}, 2, "exclude");
}

}  // namespace
}  // namespace tensor_pager::qwen
