// SPDX-License-Identifier: Apache-2.0
#include "kernels/dequantize.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "dequantize_vectors.hpp"
#include "kernel_test_data.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

class Dequantize : public testing::TestWithParam<InstructionSet> {};

TEST_P(Dequantize, IsBitIdenticalToTheGgufPackage) {
  const auto all = read_dequantize_vectors();
  ASSERT_EQ(all.size(), all_weight_types().size());
  for (const DequantizeVectors& vectors : all) {
    ASSERT_EQ(row_bytes(vectors.type, vectors.values.size()), vectors.blocks.size());
    std::vector<float> out(vectors.values.size());
    dequantize(vectors.type, vectors.blocks.data(), out.data(), out.size(), GetParam());
    for (std::size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(std::memcmp(&out[i], &vectors.values[i], sizeof(float)), 0)
          << name(vectors.type) << " element " << i << ": " << out[i] << " instead of "
          << vectors.values[i];
    }
  }
}

TEST_P(Dequantize, GivesTheScalarBitsAtEveryLength) {
  for (const WeightType type : all_weight_types()) {
    const std::size_t block = block_elements(type);
    for (std::size_t blocks = 1; blocks < (block == 1 ? 35U : 4U); ++blocks) {
      const std::size_t elements = blocks * block;
      const auto bytes = finite_blocks(type, 1, elements, 11);
      std::vector<float> expected(elements + 1, 123.0F);
      std::vector<float> out(elements + 1, 123.0F);  // the last one must stay
      dequantize(type, bytes.data(), expected.data(), elements, InstructionSet::scalar);
      dequantize(type, bytes.data(), out.data(), elements, GetParam());
      EXPECT_TRUE(same_bits(out, expected)) << name(type) << " " << elements;
      EXPECT_EQ(out.back(), 123.0F) << name(type) << " " << elements;
    }
  }
}

TEST_P(Dequantize, ConvertsEveryHalf) {
  std::vector<std::uint16_t> halves(1 << 16);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> out(halves.size());
  dequantize(WeightType::f16, reinterpret_cast<const std::byte*>(halves.data()), out.data(),
             out.size(), GetParam());
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const int exponent = static_cast<int>(i >> 10 & 31);
    const double fraction = static_cast<double>(i & 1023);
    if (exponent == 31 && fraction != 0) {
      EXPECT_TRUE(std::isnan(out[i])) << i;
      continue;
    }
    double expected =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) expected = HUGE_VAL;
    if (i >= 0x8000) expected = -expected;
    ASSERT_EQ(static_cast<double>(out[i]), expected) << i;
    ASSERT_EQ(std::signbit(out[i]), i >= 0x8000) << i;
  }
}

TEST_P(Dequantize, RefusesPartBlocks) {
  std::byte byte{};
  float out = 0.0F;
  EXPECT_THROW(dequantize(WeightType::q6_k, &byte, &out, 32, GetParam()), Error);
}

std::string set_name(const testing::TestParamInfo<InstructionSet>& info) {
  return std::string(name(info.param));
}

INSTANTIATE_TEST_SUITE_P(, Dequantize, testing::ValuesIn(available_instruction_sets()), set_name);

}  // namespace
}  // namespace tensor_pager::kernels::cpu
