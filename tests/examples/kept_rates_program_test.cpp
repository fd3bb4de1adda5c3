// SPDX-License-Identifier: Apache-2.0
// Rates for --place as users meet them: measured by the first run, read by those after it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using testing::HasSubstr;
using testing::Not;

const std::vector<std::string> kRun = {
    "--device", "host",    "-m",  test_data("models/tiny-qwen2-q4_k_m.gguf"),
    "-q",       "-p",      "In",  "-n",
    "2",        "--arena", "40%", "--place",
    "auto"};

class KeptRatesOfRuns : public testing::Test {
 protected:
  KeptRatesOfRuns() { ::setenv("XDG_CACHE_HOME", (directory_ / "cache").c_str(), 1); }

  static tests::ProcessResult run(const std::vector<std::string>& more = {"--explain"}) {
    std::vector<std::string> arguments = kRun;
    arguments.insert(arguments.end(), more.begin(), more.end());
    tests::ProcessResult result = tests::run_process(QWEN_PREFILL, arguments);
    EXPECT_EQ(result.status, 0) << result.err;
    return result;
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> files;
    if (!fs::exists(directory_ / "cache/tensor-pager")) return files;
    for (const auto& file : fs::directory_iterator(directory_ / "cache/tensor-pager"))
      files.push_back(file.path());
    return files;
  }
  ordered_json kept() const {
    EXPECT_EQ(files().size(), 1U);
    std::ifstream in(files().at(0));
    return ordered_json::parse(in);
  }
  void keep(const ordered_json& json) const { std::ofstream(files().at(0)) << json.dump(); }

  tests::TemporaryDirectory directory_;
};

TEST_F(KeptRatesOfRuns, AreReadByTheSecondRun) {
  EXPECT_THAT(run().err, HasSubstr("measured now (none were stored); kept in "));
  ordered_json json = kept();
  json["rates"]["link"] = {{"alone", 12.5e9}, {"together", 12.5e9}};
  keep(json);
  const std::string err = run().err;
  EXPECT_THAT(err, HasSubstr("rates: link 12.5 GB/s"));
  EXPECT_THAT(err, HasSubstr("of " + files().at(0).string() + ", measured on 20"));
  EXPECT_EQ(kept(), json);
  EXPECT_EQ(run({}).err, "") << "nothing is said unless somebody asks";
}

TEST_F(KeptRatesOfRuns, AreMeasuredAnewIfThatIsAskedFor) {
  run();
  ordered_json json = kept();
  json["date"] = "2001-01-01";
  keep(json);
  EXPECT_THAT(run({"--explain", "--measure"}).err, HasSubstr("measured now (as asked for)"));
  EXPECT_NE(kept()["date"], "2001-01-01");
}

TEST_F(KeptRatesOfRuns, OfAnotherVersionMachineOrKindAreReplaced) {
  run();
  const ordered_json good = kept();
  for (const auto& [field, why] :
       std::vector<std::pair<std::string, std::string>>{{"program", "with another program"},
                                                        {"cpu", "with another cpu"},
                                                        {"types", "with another types"}}) {
    ordered_json foreign = good;
    foreign["measured"][field] = "other";
    keep(foreign);
    EXPECT_THAT(run().err, HasSubstr("measured now (they were measured " + why));
    EXPECT_EQ(kept()["measured"], good["measured"]);
  }
  std::ofstream(files().at(0)) << R"({"version": 1)";
  EXPECT_THAT(run().err, HasSubstr("measured now (the file is damaged)"));
  EXPECT_EQ(kept()["measured"], good["measured"]);
}

TEST_F(KeptRatesOfRuns, OfAnotherNumberOfThreadsHaveTheirOwnFile) {
  run({"--threads", "1"});
  run({"--threads", "1"});
  EXPECT_EQ(files().size(), 1U);
  EXPECT_EQ(kept()["measured"]["cores"], 1);
}

TEST_F(KeptRatesOfRuns, NeedNoHome) {
  const char* const before = std::getenv("HOME");
  const std::string home = before == nullptr ? "" : before;
  ::unsetenv("XDG_CACHE_HOME");
  ::unsetenv("HOME");
  const std::string err = run().err;
  EXPECT_THAT(err, HasSubstr("measured now; neither XDG_CACHE_HOME nor HOME"));
  EXPECT_EQ(run({}).err, "");
  ::setenv("HOME", home.c_str(), 1);
}

// It costs a second each time, so it is said.
TEST_F(KeptRatesOfRuns, ThatCannotBeKeptAreSaidOnce) {
  directory_.write("cache", "a file");
  const std::string err = run({}).err;
  EXPECT_THAT(err, HasSubstr("qwen_prefill: this machine's rates were measured, but could not be "
                             "kept ("));
  EXPECT_EQ(std::ranges::count(err, '\n'), 1) << err;
  EXPECT_THAT(run().err, HasSubstr("they could not be kept"));
}

TEST_F(KeptRatesOfRuns, OfTwoAtOnceAreWhole) {
  std::vector<std::string> arguments = kRun;
  tests::ChildProcess one(QWEN_PREFILL, arguments);
  tests::ChildProcess two(QWEN_PREFILL, arguments);
  EXPECT_EQ(one.wait().status, 0);
  EXPECT_EQ(two.wait().status, 0);
  EXPECT_EQ(kept()["version"], 3);
  EXPECT_THAT(run().err, HasSubstr("measured on 20"));
}

// Nothing is measured where nothing is chosen.
TEST_F(KeptRatesOfRuns, AreNotThereWithoutAPlace) {
  std::vector<std::string> arguments(kRun.begin(), kRun.end() - 2);
  EXPECT_EQ(tests::run_process(QWEN_PREFILL, arguments).status, 0);
  EXPECT_TRUE(files().empty());
}

}  // namespace
}  // namespace tensor_pager::qwen
