// SPDX-License-Identifier: Apache-2.0
#include "prediction/kept_rates.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../temporary_directory.hpp"

namespace tensor_pager::prediction {
namespace {

using loaders::PlacementRates;
using testing::HasSubstr;

class KeptRatesTest : public testing::Test {
 protected:
  RatesFile file(const std::string& gpu = "A GPU") const {
    return {directory_ / "cache",
            {.cpu = "A processor",
             .cores = 2,
             .gpu = gpu,
             .driver = "580.1",
             .program = "1",
             .types = {loaders::TensorType::q4_k}}};
  }
  // Each measurement gives another number.
  KeptRates keep(const KeepOptions& options) {
    return keep_rates(options, [&] {
      ++measured_;
      PlacementRates rates;
      rates.link = {.alone = 1e9 * measured_, .together = 1e9};
      rates.gpu_memory = 1e12;
      return rates;
    });
  }
  KeptRates keep() { return keep({.file = file(), .date = "2026-11-27"}); }

  tests::TemporaryDirectory directory_;
  int measured_ = 0;
};

TEST_F(KeptRatesTest, TheSecondTimeNothingIsMeasured) {
  const KeptRates first = keep();
  EXPECT_EQ(first.origin, "measured now (none were stored); kept in " + file().path().string());
  EXPECT_EQ(first.problem, "");
  const KeptRates second = keep({.file = file(), .date = "2026-12-01"});
  EXPECT_EQ(measured_, 1);
  EXPECT_EQ(second.rates.link.alone, 1e9);
  EXPECT_EQ(second.origin, "of " + file().path().string() + ", measured on 2026-11-27");
}

TEST_F(KeptRatesTest, TheyAreMeasuredAnewIfThatIsAskedFor) {
  keep();
  const KeptRates again = keep({.file = file(), .anew = true, .date = "2026-12-01"});
  EXPECT_EQ(again.rates.link.alone, 2e9);
  EXPECT_THAT(again.origin, HasSubstr("measured now (as asked for); kept in"));
  const KeptRates third = keep();
  EXPECT_EQ(third.rates.link.alone, 2e9);
  EXPECT_THAT(third.origin, HasSubstr("measured on 2026-12-01"));
}

TEST_F(KeptRatesTest, ADamagedFileIsReplaced) {
  keep();
  std::ofstream(file().path()) << "{";
  EXPECT_THAT(keep().origin, HasSubstr("measured now (the file is damaged); kept in"));
  EXPECT_EQ(measured_, 2);
  EXPECT_EQ(keep().rates.link.alone, 2e9);
  EXPECT_EQ(measured_, 2);
}

TEST_F(KeptRatesTest, AnotherMachineMeasuresItself) {
  keep();
  EXPECT_EQ(keep({.file = file("Another GPU"), .date = ""}).rates.link.alone, 2e9);
  EXPECT_EQ(keep().rates.link.alone, 1e9);
}

TEST_F(KeptRatesTest, WithoutAFolderTheyAreMeasuredEachTime) {
  for (int i = 1; i <= 2; ++i) {
    const KeptRates kept = keep({.file = {}, .date = ""});
    EXPECT_EQ(kept.rates.link.alone, 1e9 * i);
    EXPECT_THAT(kept.origin, HasSubstr("measured now; neither XDG_CACHE_HOME nor HOME"));
    EXPECT_EQ(kept.problem, "");
  }
}

TEST_F(KeptRatesTest, AFolderThatCannotBeIsNoFailure) {
  directory_.write("cache", "a file");
  const KeptRates kept = keep();
  EXPECT_EQ(kept.rates.link.alone, 1e9);
  EXPECT_THAT(kept.origin, HasSubstr("they could not be kept"));
  EXPECT_THAT(kept.problem, HasSubstr("could not be kept"));
  EXPECT_THAT(kept.problem, HasSubstr(file().path().string()));
}

TEST_F(KeptRatesTest, WhatMeasuringSaysIsSaid) {
  EXPECT_THROW(keep_rates({.file = file(), .date = ""},
                          []() -> PlacementRates { throw std::runtime_error("no GPU"); }),
               std::runtime_error);
  EXPECT_FALSE(std::filesystem::exists(file().path()));
}

// Programs that start together all measure, and the last one's is kept: whoever reads meanwhile
// finds a whole file, or none yet.
TEST_F(KeptRatesTest, ManyAtOnceLeaveAWholeFile) {
  std::atomic<int> damaged = 0;
  std::atomic<bool> done = false;
  std::thread reader([&] {
    while (!done) damaged += file().read().why_not == "the file is damaged" ? 1 : 0;
  });
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < 50; ++i) {
        PlacementRates rates;
        rates.link = {.alone = 1e9 + w, .together = 1e9 + w};
        rates.gpu_memory = 1e12;
        file().write(rates, "2026-11-27");
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  done = true;
  reader.join();
  EXPECT_EQ(damaged, 0);
  const StoredRates last = file().read();
  ASSERT_TRUE(last.rates) << last.why_not;
  EXPECT_EQ(last.rates->link.alone, last.rates->link.together);
  const std::filesystem::directory_iterator all(file().path().parent_path());
  EXPECT_EQ(std::distance(begin(all), end(all)), 1);
}

TEST(ThisMachine, HasANameAndAVersion) {
  EXPECT_EQ(processor_name("processor\t: 0\nmodel name\t: A processor @ 2 GHz\ncpu MHz: 1\n"),
            "A processor @ 2 GHz");
  EXPECT_EQ(processor_name("processor\t: 0\nBogoMIPS\t: 50\n"), "unknown");
  EXPECT_EQ(processor_name("model name"), "unknown");
  EXPECT_EQ(processor_name("model name :\n"), "unknown");
  EXPECT_EQ(driver_version("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  "
                           "Release Build\nGCC version:  gcc version 12.2.0\n"),
            "580.159.04");
  EXPECT_EQ(driver_version("no version at all.\n"), "");
  EXPECT_EQ(driver_version(""), "");
  const RatesKey key = key_of_this_machine(7, "", {loaders::TensorType::q4_k});
  EXPECT_EQ(key.cores, 7U);
  EXPECT_NE(key.cpu, "");
  EXPECT_NE(key.program, "");
  EXPECT_EQ(key.driver, "");
  EXPECT_THAT(today(), testing::MatchesRegex("20[0-9][0-9]-[01][0-9]-[0-3][0-9]"));
}

}  // namespace
}  // namespace tensor_pager::prediction
