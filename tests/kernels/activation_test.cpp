// SPDX-License-Identifier: Apache-2.0
#include "kernels/activation.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>

#include "kernel_test_data.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

class Swiglu : public testing::TestWithParam<InstructionSet> {};

// Tolerance: 2 units from the exponential, then an addition, a division and a product.
TEST_P(Swiglu, AgreesWithDoubleOverTheWholeRange) {
  for (const std::size_t n : {1U, 15U, 16U, 33U, 4001U}) {
    std::vector<float> gate(2 * n);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      gate[i] = -90.0F + 180.0F * static_cast<float>(i) / static_cast<float>(gate.size());
    }
    const auto up = normal_floats(2 * n, 1);
    std::vector<float> out(2 * n);
    swiglu(view(gate, 2, n), view(up, 2, n), view(out, 2, n), GetParam());
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double g = static_cast<double>(gate[i]);
      const double expected = g / (1.0 + std::exp(-g)) * static_cast<double>(up[i]);
      // Below -87 the exponential stops growing at 2e38; the results there are less than 1e-36.
      ASSERT_NEAR(static_cast<double>(out[i]), expected, 8 * 0x1p-24 * std::abs(expected) + 1e-36)
          << "gate " << gate[i];
    }
  }
}

TEST_P(Swiglu, ExtremesStayFiniteAndNotANumberStays) {
  const std::vector<float> gate{-1e30F, -200.0F, 200.0F, 1e30F, -0.0F, NAN};
  const std::vector<float> up(gate.size(), 1.0F);
  std::vector<float> out(gate.size());
  swiglu(view(gate, 1, 6), view(up, 1, 6), view(out, 1, 6), GetParam());
  EXPECT_NEAR(out[1], 0.0F, 1e-30F);
  EXPECT_EQ(out[2], 200.0F);
  EXPECT_EQ(out[3], 1e30F);
  EXPECT_EQ(out[4], 0.0F);
  EXPECT_TRUE(std::isfinite(out[0]));
  EXPECT_TRUE(std::isnan(out[5]));
}

TEST_P(Swiglu, MayWriteOverItsInput) {
  auto gate = normal_floats(70, 1);
  const auto up = normal_floats(70, 2);
  std::vector<float> out(70);
  swiglu(view(gate, 2, 35), view(up, 2, 35), view(out, 2, 35), GetParam());
  swiglu(view(gate, 2, 35), view(up, 2, 35), view(gate, 2, 35), GetParam());
  EXPECT_TRUE(same_bits(gate, out));
  EXPECT_THROW(swiglu(view(gate, 2, 35), view(up, 1, 35), view(out, 2, 35)), Error);
}

std::string set_name(const testing::TestParamInfo<InstructionSet>& info) {
  return std::string(name(info.param));
}

INSTANTIATE_TEST_SUITE_P(, Swiglu, testing::ValuesIn(available_instruction_sets()), set_name);

TEST(Add, AddsRowsWithTheirOwnStrides) {
  const std::vector<float> a{1, 2, -1, 3, 4, -1};
  std::vector<float> b{10, 20, 30, 40};
  add({a.data(), 2, 2, 3}, view(b, 2, 2), view(b, 2, 2));
  EXPECT_EQ(b, (std::vector<float>{11, 22, 33, 44}));
  EXPECT_THROW(add({a.data(), 2, 2, 3}, view(b, 2, 2), view(b, 1, 2)), Error);
}

TEST(SoftmaxRows, SumsToOneWithoutOverflow) {
  std::vector<float> x{1000.0F, 1001.0F, 999.0F, -5.0F, -5.0F, -5.0F};
  softmax_rows(view(x, 2, 3));
  const double sum = 1.0 + std::exp(-1.0) + std::exp(-2.0);
  EXPECT_NEAR(x[0], std::exp(-1.0) / sum, 1e-7);
  EXPECT_NEAR(x[1], 1.0 / sum, 1e-7);
  EXPECT_NEAR(x[2], std::exp(-2.0) / sum, 1e-7);
  for (std::size_t i = 3; i < 6; ++i) EXPECT_NEAR(x[i], 1.0 / 3.0, 1e-7);
}

TEST(TopK, PrefersTheLowerIndexOfEqualValues) {
  const std::vector<float> values{0.5F, 2.0F, 0.5F, 2.0F, -1.0F};
  std::array<std::size_t, 3> indices{};
  top_k(values, indices);
  EXPECT_EQ(indices, (std::array<std::size_t, 3>{1, 3, 0}));
  std::array<std::size_t, 6> too_many{};
  EXPECT_THROW(top_k(values, too_many), Error);
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
