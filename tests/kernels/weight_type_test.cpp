// SPDX-License-Identifier: Apache-2.0
#include "kernels/weight_type.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/error.hpp"

namespace tensor_pager::kernels {
namespace {

TEST(WeightType, NumbersRoundTrip) {
  EXPECT_EQ(all_weight_types().size(), 26U);
  for (const WeightType type : all_weight_types()) {
    EXPECT_EQ(weight_type(static_cast<std::uint32_t>(type)), type) << name(type);
  }
}

TEST(WeightType, UnknownNumbersHaveNoType) {
  for (const std::uint32_t number : {4U, 5U, 9U, 15U, 24U, 31U, 36U, 41U, 0xFFFFFFFFU}) {
    EXPECT_EQ(weight_type(number), std::nullopt) << number;
  }
}

TEST(WeightType, RowBytesCountsWholeBlocks) {
  EXPECT_EQ(row_bytes(WeightType::f32, 7), 28U);
  EXPECT_EQ(row_bytes(WeightType::q8_0, 64), 68U);
  EXPECT_EQ(row_bytes(WeightType::q4_k, 18944), 18944U / 256 * 144);
  EXPECT_EQ(row_bytes(WeightType::mxfp4, 96), 51U);
  EXPECT_EQ(row_bytes(WeightType::nvfp4, 128), 72U);
  EXPECT_EQ(row_bytes(WeightType::iq4_xs, std::uint64_t{1} << 40), (std::uint64_t{1} << 32) * 136);
}

TEST(WeightType, PartBlocksAreNamedInTheError) {
  try {
    static_cast<void>(row_bytes(WeightType::q4_k, 300));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("300"), testing::HasSubstr("Q4_K"),
                                             testing::HasSubstr("256")));
  }
}

}  // namespace
}  // namespace tensor_pager::kernels
