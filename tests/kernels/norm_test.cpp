// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernel_test_data.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

// Tolerance: the squares are summed in double, so what remains are three float32 roundings.
TEST(RmsNorm, AgreesWithDouble) {
  for (const std::size_t n : {1U, 7U, 8U, 64U, 129U, 3584U}) {
    constexpr std::size_t kRows = 3;
    const auto x = normal_floats(kRows * n, 1);
    const auto weight = normal_floats(n, 2);
    std::vector<float> out(kRows * n);
    rms_norm(view(x, kRows, n), weight.data(), 1e-6F, view(out, kRows, n));
    for (std::size_t r = 0; r < kRows; ++r) {
      double squares = 0.0;
      for (std::size_t i = 0; i < n; ++i) squares += std::pow(static_cast<double>(x[r * n + i]), 2);
      const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
      for (std::size_t i = 0; i < n; ++i) {
        const double expected =
            static_cast<double>(x[r * n + i]) * scale * static_cast<double>(weight[i]);
        ASSERT_NEAR(static_cast<double>(out[r * n + i]), expected, 4 * 0x1p-24 * std::abs(expected))
            << n << " " << r << " " << i;
      }
    }
  }
}

TEST(RmsNorm, InPlaceOnHeadsOfAWiderMatrixTouchesNothingElse) {
  constexpr std::size_t kDim = 16;
  const auto x = normal_floats(4 * 20, 3);
  const auto weight = normal_floats(kDim, 4);
  auto inside = x;
  rms_norm({inside.data(), 4, kDim, 20}, weight.data(), 1e-6F, {inside.data(), 4, kDim, 20});
  std::vector<float> apart(4 * kDim);
  rms_norm({x.data(), 4, kDim, 20}, weight.data(), 1e-6F, view(apart, 4, kDim));
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(inside[i], i % 20 < kDim ? apart[i / 20 * kDim + i % 20] : x[i]) << i;
  }
}

// Also where many threads share the rows.
TEST(RmsNorm, SaysWhetherAllAreNumbers) {
  constexpr std::size_t kRows = 400;
  constexpr std::size_t kCols = 512;
  const auto weight = normal_floats(kCols, 2);
  for (const float value : {std::nanf(""), HUGE_VALF, -HUGE_VALF, 3e38F, 1e-40F}) {
    auto x = normal_floats(kRows * kCols, 1);
    x[(kRows - 2) * kCols + kCols - 1] = value;
    std::vector<float> out(x.size());
    EXPECT_EQ(rms_norm(view(x, kRows, kCols), weight.data(), 1e-6F, view(out, kRows, kCols)),
              std::isfinite(value))
        << value;
  }
}

TEST(RmsNorm, EpsilonBoundsZeroRows) {
  std::vector<float> x(8, 0.0F);
  const std::vector<float> weight(8, 1.0F);
  rms_norm(view(x, 1, 8), weight.data(), 1e-6F, view(x, 1, 8));
  for (const float value : x) EXPECT_EQ(value, 0.0F);
}

TEST(RmsNorm, RefusesShapesThatDoNotAgree) {
  std::vector<float> x(8);
  EXPECT_THROW(rms_norm(view(x, 2, 4), x.data(), 1e-6F, view(x, 1, 4)), Error);
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
