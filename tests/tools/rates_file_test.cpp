// SPDX-License-Identifier: Apache-2.0
#include "prediction/rates_file.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#include "../temporary_directory.hpp"
#include "output/replacement_file.hpp"

namespace tensor_pager::prediction {
namespace {

using loaders::PlacementRates;
using loaders::TensorType;

RatesKey key() {
  return {.cpu = "A processor \"of 2 GHz\"",
          .cores = 16,
          .gpu = "A GPU",
          .driver = "580.1",
          .program = "0.3.0",
          .types = {TensorType::q6_k, TensorType::q4_k}};
}

PlacementRates rates() {
  PlacementRates rates;
  rates.link = {.alone = 54.125e9, .together = 47e9};
  rates.cpu = {.alone = 114e9, .together = 1.0 / 3};
  rates.cpu_kernels[TensorType::q4_k] = {.weights = 1e11, .arithmetic = 2e12};
  rates.cpu_kernels[TensorType::q6_k] = {.weights = 2e11, .arithmetic = 1e12};
  rates.gpu_memory = 3e12;
  rates.gpu_arithmetic = 6e14;
  rates.gpu_step = 5e-6;
  rates.handover = 20e-6;
  return rates;
}

class RatesFileTest : public testing::Test {
 protected:
  RatesFile file(const RatesKey& k = key()) const { return {directory_ / "deep/er", k}; }
  std::string content() const {
    std::ostringstream out;
    out << std::ifstream(file().path()).rdbuf();
    return out.str();
  }
  void replace(const std::string& from, const std::string& to) const {
    std::string text = content();
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    std::ofstream(file().path()) << text.replace(at, from.size(), to);
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(RatesFileTest, HasWhatWasWritten) {
  EXPECT_EQ(file().read().why_not, "none were stored");
  file().write(rates(), "2026-11-27");
  const StoredRates stored = file().read();
  ASSERT_TRUE(stored.rates) << stored.why_not;
  EXPECT_EQ(stored.date, "2026-11-27");
  EXPECT_EQ(stored.rates->link.alone, 54.125e9);
  EXPECT_EQ(stored.rates->link.together, 47e9);
  EXPECT_EQ(stored.rates->cpu.alone, 114e9);
  EXPECT_EQ(stored.rates->cpu.together, 1.0 / 3);
  ASSERT_EQ(stored.rates->cpu_kernels.size(), 2U);
  EXPECT_EQ(stored.rates->cpu_kernels.at(TensorType::q6_k).weights, 2e11);
  EXPECT_EQ(stored.rates->cpu_kernels.at(TensorType::q4_k).arithmetic, 2e12);
  EXPECT_EQ(stored.rates->gpu_memory, 3e12);
  EXPECT_EQ(stored.rates->gpu_arithmetic, 6e14);
  EXPECT_EQ(stored.rates->gpu_step, 5e-6);
  EXPECT_EQ(stored.rates->handover, 20e-6);
}

TEST_F(RatesFileTest, TypesHaveNoOrder) {
  file().write(rates(), "2026-11-27");
  RatesKey other = key();
  other.types = {TensorType::q4_k, TensorType::q6_k, TensorType::q4_k};
  EXPECT_TRUE(file(other).read().rates);
}

TEST_F(RatesFileTest, AnotherMachineOrModelHasAnotherFile) {
  const auto differs = [&](const std::function<void(RatesKey&)>& change) {
    RatesKey other = key();
    change(other);
    EXPECT_NE(file(other).path(), file().path());
  };
  differs([](RatesKey& k) { k.cpu = "Another"; });
  differs([](RatesKey& k) { k.cores = 8; });
  differs([](RatesKey& k) { k.gpu = "Another"; });
  differs([](RatesKey& k) { k.types = {TensorType::q4_k}; });
  differs([](RatesKey& k) { k.sequences = 8; });
}

TEST_F(RatesFileTest, WhatAnotherVersionMeasuredIsStale) {
  file().write(rates(), "2026-11-27");
  RatesKey driver = key();
  driver.driver = "590.2";
  EXPECT_EQ(file(driver).read().why_not, "they were measured with another driver");
  RatesKey program = key();
  program.program = "0.4.0";
  EXPECT_EQ(file(program).read().why_not, "they were measured with another program");
  file(program).write(rates(), "2026-11-27");
  EXPECT_TRUE(file(program).read().rates);
  EXPECT_FALSE(file().read().rates);
}

TEST_F(RatesFileTest, AForeignFileIsRecognised) {
  file().write(rates(), "2026-11-27");
  replace("A GPU", "Another GPU");
  EXPECT_EQ(file().read().why_not, "they were measured with another gpu");
}

TEST_F(RatesFileTest, ADamagedFileIsNone) {
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"{", "["},
                                 {"\"rates\"", "\"rats\""},
                                 {"3000000000000.0", "-3000000000000.0"},
                                 {"3000000000000.0", "0"},
                                 {"3000000000000.0", "\"fast\""},
                                 {"\"handover\"", "\"hangover\""},
                                 {"\"date\"", "\"data\""},
                                 {"54125000000.0", "0.0"}}) {
    file().write(rates(), "2026-11-27");
    replace(from, to);
    EXPECT_EQ(file().read().why_not, "the file is damaged") << from;
  }
  std::ofstream(file().path()) << "";
  EXPECT_EQ(file().read().why_not, "the file is damaged");
  file().write(rates(), "2026-11-27");
  replace("\"version\": 3", "\"version\": 4");
  EXPECT_EQ(file().read().why_not, "another program stored them");
}

TEST_F(RatesFileTest, LeavesNothingBeside) {
  file().write(rates(), "2026-11-27");
  file().write(rates(), "2026-11-27");
  const std::filesystem::directory_iterator all(file().path().parent_path());
  EXPECT_EQ(std::distance(begin(all), end(all)), 1);
}

TEST_F(RatesFileTest, AFolderThatCannotBeIsAnError) {
  directory_.write("deep", "a file");
  EXPECT_THROW(file().write(rates(), "2026-11-27"), output::OutputError);
  EXPECT_FALSE(file().read().rates);
}

TEST(RatesFolder, IsTheUsersCache) {
  EXPECT_EQ(rates_folder("/cache", "/home/user"), "/cache/tensor-pager");
  EXPECT_EQ(rates_folder(nullptr, "/home/user"), "/home/user/.cache/tensor-pager");
  EXPECT_EQ(rates_folder("relative", "/home/user"), "/home/user/.cache/tensor-pager");
  EXPECT_EQ(rates_folder("", nullptr), std::nullopt);
}

}  // namespace
}  // namespace tensor_pager::prediction
