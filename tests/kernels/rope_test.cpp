// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "kernel_test_data.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels {
namespace {

TEST(RopeFrequencies, ArePowersOfTheBase) {
  const auto plain = rope_frequencies({.rotary_dims = 8, .frequency_base = 1e4});
  ASSERT_EQ(plain.inverse.size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_DOUBLE_EQ(plain.inverse[i], std::pow(10.0, -static_cast<double>(i)));
  }
  EXPECT_EQ(plain.magnitude, 1.0);
}

TEST(RopeFrequencies, LinearScalingDividesAllOfThem) {
  const auto linear = rope_frequencies(
      {.rotary_dims = 8, .frequency_base = 1e4, .scaling = RopeScaling::linear, .factor = 4.0});
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_DOUBLE_EQ(linear.inverse[i], std::pow(10.0, -static_cast<double>(i)) / 4.0);
  }
  EXPECT_EQ(linear.magnitude, 1.0);
}

TEST(RopeFrequencies, FactorsDivideEachPairsBeforeItIsScaled) {
  const auto plain = rope_frequencies({.rotary_dims = 8, .frequency_base = 1e4});
  for (const RopeScaling scaling : {RopeScaling::none, RopeScaling::linear}) {
    const auto divided = rope_frequencies({.rotary_dims = 8,
                                           .frequency_base = 1e4,
                                           .scaling = scaling,
                                           .factor = 4.0,
                                           .factors = {1, 2, 8, 0.5F}});
    const double by = scaling == RopeScaling::none ? 1 : 4;
    EXPECT_DOUBLE_EQ(divided.inverse[0], plain.inverse[0] / by);
    EXPECT_DOUBLE_EQ(divided.inverse[1], plain.inverse[1] / 2 / by);
    EXPECT_DOUBLE_EQ(divided.inverse[2], plain.inverse[2] / 8 / by);
    EXPECT_DOUBLE_EQ(divided.inverse[3], plain.inverse[3] * 2 / by);
  }
  EXPECT_THROW(static_cast<void>(rope_frequencies({.rotary_dims = 8, .factors = {1, 2}})), Error);
}

TEST(RopeFrequencies, AttentionFactorsMultiplyWithAnyScaling) {
  for (const RopeScaling scaling : {RopeScaling::none, RopeScaling::linear}) {
    EXPECT_EQ(rope_frequencies(
                  {.rotary_dims = 8, .scaling = scaling, .factor = 4.0, .attention_factor = 1.5})
                  .magnitude,
              1.5);
  }
  // YaRN of a context that becomes shorter needs no other temperature.
  EXPECT_EQ(
      rope_frequencies(
          {.rotary_dims = 8, .scaling = RopeScaling::yarn, .factor = 0.5, .original_context = 100})
          .magnitude,
      1.0);
}

// Qwen2.5's own setting: factor 4 of 32768 positions, head_dim 128, base 1e6.
TEST(RopeFrequencies, YarnKeepsFastPairsAndStretchesSlowOnes) {
  const RopeParameters parameters{.rotary_dims = 128,
                                  .frequency_base = 1e6,
                                  .scaling = RopeScaling::yarn,
                                  .factor = 4.0,
                                  .original_context = 32768};
  const auto yarn = rope_frequencies(parameters);
  const auto plain = rope_frequencies({.rotary_dims = 128, .frequency_base = 1e6});
  std::size_t kept = 0;
  std::size_t stretched = 0;
  for (std::size_t i = 0; i < 64; ++i) {
    const double ratio = plain.inverse[i] / yarn.inverse[i];
    const double turns = 32768 * plain.inverse[i] / (2 * std::numbers::pi);
    if (turns > 40) {
      EXPECT_DOUBLE_EQ(ratio, 1.0) << i;
      ++kept;
    } else if (turns < 0.8) {
      EXPECT_DOUBLE_EQ(ratio, 4.0) << i;
      ++stretched;
    } else {
      EXPECT_GE(ratio, 1.0) << i;
      EXPECT_LE(ratio, 4.0) << i;
    }
  }
  EXPECT_GT(kept, 10U);
  EXPECT_GT(stretched, 10U);
  EXPECT_DOUBLE_EQ(yarn.magnitude, 1.0 + 0.1 * std::log(4.0));
}

// The ramp runs from pair floor(23.59) to ceil(39.65), from the closed form of the paper's equation
// for 32 turns and 1.
TEST(RopeFrequencies, YarnBlendsLinearlyBetweenTheCorrectionPairs) {
  const auto yarn = rope_frequencies({.rotary_dims = 128,
                                      .frequency_base = 1e6,
                                      .scaling = RopeScaling::yarn,
                                      .factor = 4.0,
                                      .original_context = 32768});
  for (std::size_t i = 23; i <= 40; ++i) {
    const double plain = std::pow(1e6, -static_cast<double>(i) / 64.0);
    const double interpolated = (static_cast<double>(i) - 23.0) / 17.0;
    EXPECT_NEAR(yarn.inverse[i] / plain, 1.0 - 0.75 * interpolated, 1e-12) << i;
  }
}

TEST(RopeFrequencies, RefusesImpossibleParameters) {
  EXPECT_THROW(static_cast<void>(rope_frequencies({.rotary_dims = 7})), Error);
  EXPECT_THROW(static_cast<void>(rope_frequencies({.rotary_dims = 0})), Error);
  EXPECT_THROW(static_cast<void>(rope_frequencies({.rotary_dims = 8, .frequency_base = 0.0})),
               Error);
  EXPECT_THROW(static_cast<void>(rope_frequencies(
                   {.rotary_dims = 8, .scaling = RopeScaling::linear, .factor = 0.0})),
               Error);
  EXPECT_THROW(
      static_cast<void>(rope_frequencies({.rotary_dims = 8, .scaling = RopeScaling::yarn})), Error);
}

// Tolerance: cosines and sines are exact to half a unit of 2^-24 even at large positions; three
// roundings follow.
TEST(Rope, RotatesHalvesAtSmallAndLargePositions) {
  constexpr std::size_t kHeads = 3, kDim = 10, kTokens = 4;
  const auto frequencies = rope_frequencies({.rotary_dims = 8, .frequency_base = 1e6});
  for (const std::size_t first : {std::size_t{0}, std::size_t{1000000}}) {
    const RopeTable table(frequencies, first, kTokens);
    const auto before = normal_floats(kTokens * kHeads * kDim, 1);
    auto x = before;
    cpu::rope(view(x, kTokens, kHeads * kDim), kHeads, first, table);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t d = i % kDim;
      if (d >= 8) {
        EXPECT_EQ(x[i], before[i]) << "not rotated: " << i;
        continue;
      }
      const auto position = static_cast<double>(first + i / (kHeads * kDim));
      const double angle = position * std::pow(1e6, -static_cast<double>(d % 4) / 4.0);
      const double self = static_cast<double>(before[i]);
      const double other = static_cast<double>(d < 4 ? before[i + 4] : before[i - 4]);
      const double expected =
          self * std::cos(angle) + (d < 4 ? -1.0 : 1.0) * other * std::sin(angle);
      EXPECT_NEAR(static_cast<double>(x[i]), expected,
                  4 * 0x1p-24 * (std::abs(self) + std::abs(other)))
          << i << " at " << first;
    }
  }
}

TEST(Rope, TheTablesOriginDoesNotMatter) {
  const auto frequencies = rope_frequencies({.rotary_dims = 16});
  auto a = normal_floats(3 * 16, 1);
  auto b = a;
  cpu::rope(view(a, 3, 16), 1, 50, RopeTable(frequencies, 0, 64));
  cpu::rope(view(b, 3, 16), 1, 50, RopeTable(frequencies, 50, 3));
  EXPECT_TRUE(same_bits(a, b));
}

TEST(Rope, MagnitudeScalesTheRotatedPart) {
  auto frequencies = rope_frequencies({.rotary_dims = 4});
  frequencies.magnitude = 2.0;
  std::vector<float> x{1, 2, 3, 4, 5, 6};
  cpu::rope(view(x, 1, 6), 1, 0, RopeTable(frequencies, 0, 1));
  EXPECT_EQ(x, (std::vector<float>{2, 4, 6, 8, 5, 6}));
}

TEST(Rope, RefusesWhatTheTableDoesNotCover) {
  const RopeTable table(rope_frequencies({.rotary_dims = 8}), 4, 4);
  std::vector<float> x(64);
  EXPECT_THROW(cpu::rope(view(x, 2, 16), 2, 3, table), Error) << "before the first position";
  EXPECT_THROW(cpu::rope(view(x, 2, 16), 2, 7, table), Error) << "beyond the last position";
  EXPECT_THROW(cpu::rope(view(x, 2, 16), 4, 4, table), Error) << "heads of 4";
  EXPECT_THROW(cpu::rope(view(x, 2, 16), 3, 4, table), Error) << "16 / 3";
  cpu::rope(view(x, 4, 16), 2, 4, table);
}

}  // namespace
}  // namespace tensor_pager::kernels
