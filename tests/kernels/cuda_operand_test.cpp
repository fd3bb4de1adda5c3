// SPDX-License-Identifier: Apache-2.0
// Matrices as products take and leave them: each kernel that writes operands leaves what its
// float32 counterpart does, rounded once.
#include <optional>

#include "cuda_test_device.hpp"
#include "kernels/activation.hpp"
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/matmul.hpp"
#include "kernels/cuda/norm.hpp"
#include "kernels/cuda/operand.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

static_assert(!kBfloatOperands, "these tests compare with halves");

std::vector<float> floats_of(const std::vector<__half>& values) {
  std::vector<float> result;
  for (const __half value : values) result.push_back(__half2float(value));
  return result;
}

std::vector<float> rounded(const std::vector<float>& values) {
  std::vector<float> result;
  for (const float value : values) result.push_back(__half2float(__float2half_rn(value)));
  return result;
}

// Operands on the device, with factors.
struct Operands {
  std::size_t rows, cols, stride = operand_stride(cols);
  DeviceArray<__half> data{rows * stride};
  DeviceArray<float> factors{rows};

  [[nodiscard]] OperandView view(bool with_factors = false) const {
    return {data.data(), rows, cols, stride, with_factors ? factors.data() : nullptr};
  }
  // What was written, times the factors.
  [[nodiscard]] std::vector<float> values(bool with_factors = false) const {
    const auto all = floats_of(data.get());
    const auto factor = factors.get();
    std::vector<float> result;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i % stride < cols) result.push_back(all[i] * (with_factors ? factor[i / stride] : 1.0F));
    }
    return result;
  }
  [[nodiscard]] bool followed_by_zeros() const {
    const auto all = floats_of(data.get());
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i % stride >= cols && i % stride < operand_stride(cols) && all[i] != 0.0F) return false;
    }
    return true;
  }
};

class CudaOperands : public CudaTest {};

TEST_F(CudaOperands, NormIsThatOfFloatsRounded) {
  for (const std::size_t cols : {3U, 12U, 128U, 257U, 516U, 5120U}) {
    const std::size_t rows = 37;
    const DeviceArray<float> x(normal_floats(rows * cols, 1));
    const DeviceArray<float> weight(normal_floats(cols, 2));
    const DeviceArray<float> expected(rows * cols);
    const Operands out{rows, cols};
    rms_norm({x.data(), rows, cols}, weight.data(), 1e-6F, {expected.data(), rows, cols}, stream);
    rms_norm({x.data(), rows, cols}, weight.data(), 1e-6F, out.view(), stream);
    EXPECT_TRUE(equal_bits(out.values(), rounded(expected.get()), cols)) << cols;
    EXPECT_TRUE(out.followed_by_zeros()) << cols;
  }
}

TEST_F(CudaOperands, RoundingDividesRowsOutsideTheRangeOfHalf) {
  const std::size_t rows = 4;
  const std::size_t cols = 1001;
  auto x = normal_floats(rows * cols, 3);
  for (std::size_t i = 0; i < cols; ++i) {
    x[cols + i] *= 1e6F;
    x[2 * cols + i] *= 1e-9F;
    x[3 * cols + i] = 0.0F;
  }
  const DeviceArray<float> device_x(x);
  const Operands out{rows, cols};
  round_rows({device_x.data(), rows, cols}, out.view(/*with_factors=*/true), stream);
  std::vector<double> scale(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    // Half's own rounding, and that of its smallest numbers relative to a row's largest.
    const double largest = i / cols == 1 ? 5e6 : i / cols == 2 ? 5e-9 : 5.0;
    scale[i] = std::abs(static_cast<double>(x[i])) * 0x1p-11 + largest * 0x1p-24;
  }
  EXPECT_TRUE(close(out.values(true), x, 1.0, cols, scale));
  const auto factors = out.factors.get();
  EXPECT_EQ(factors[0], 1.0F);
  EXPECT_GT(factors[1], 1e5F);
  EXPECT_LT(factors[2], 1e-7F);
  EXPECT_EQ(factors[3], 1.0F);
  EXPECT_TRUE(out.followed_by_zeros());
}

// gate and up are halves already, so that the reference begins with the same values.
TEST_F(CudaOperands, SwigluAgreesWithTheCpuAlsoInPlace) {
  for (const std::size_t cols : {5U, 64U, 1027U, 27648U, 70001U}) {
    for (const float size : {1.0F, 300.0F, 1e-4F}) {
      const std::size_t rows = 3;
      auto gate = rounded(normal_floats(rows * cols, 4));
      auto up = rounded(normal_floats(rows * cols, 5));
      Operands g{rows, cols};
      Operands u{rows, cols};
      std::vector<__half> g_halves(rows * g.stride);
      std::vector<__half> u_halves(rows * g.stride);
      for (std::size_t i = 0; i < rows * cols; ++i) {
        const std::size_t at = i / cols * g.stride + i % cols;
        g_halves[at] = __float2half_rn(gate[i] * size);
        u_halves[at] = __float2half_rn(up[i] * size);
        gate[i] = __half2float(g_halves[at]) / kProductScale;
        up[i] = __half2float(u_halves[at]) / kProductScale;
      }
      g.data.set(g_halves);
      u.data.set(u_halves);
      auto expected = gate;
      cpu::swiglu({gate.data(), rows, cols, cols}, {up.data(), rows, cols, cols},
                  {expected.data(), rows, cols, cols});
      const Operands out{rows, cols};
      swiglu(g.view(), u.view(), out.view(/*with_factors=*/true), stream);
      double largest = 0;
      for (const float v : expected) largest = std::max(largest, std::abs(static_cast<double>(v)));
      std::vector<double> scale(expected.size());
      for (std::size_t i = 0; i < scale.size(); ++i) {
        scale[i] = std::abs(static_cast<double>(expected[i])) * 0x1.1p-11 + largest * 0x1p-23;
      }
      EXPECT_TRUE(close(out.values(true), expected, 1.0, cols, scale)) << cols << " x " << size;
      EXPECT_TRUE(out.followed_by_zeros());
      swiglu(g.view(), u.view(), g.view(/*with_factors=*/true), stream);
      EXPECT_TRUE(equal_bits(g.values(true), out.values(true), cols)) << "in place, " << cols;
    }
  }
}

// A product of operands with columns of its own in a wider matrix, in pieces and at once.
TEST_F(CudaOperands, ProductKeptAsOperandsIsScaledAndRounded) {
  const std::size_t rows = 320;
  const std::size_t cols = 512;
  const std::size_t tokens = 70;
  const auto w = normal_floats(rows * cols, 8);
  const DeviceArray<float> device_w(w);
  const Weights weights{WeightType::f32, reinterpret_cast<const std::byte*>(device_w.data()), rows,
                        cols};
  const DeviceArray<float> x(normal_floats(tokens * cols, 9));
  const Operands operand{tokens, cols};
  round_rows({x.data(), tokens, cols}, operand.view(), stream);
  Products products;
  const DeviceArray<std::byte> scratch(Products::operand_scratch_bytes(rows, cols));
  const DeviceArray<float> expected(tokens * rows);
  products.matmul(weights, operand.view(), MatrixView{expected.data(), tokens, rows}, {},
                  {scratch.data(), scratch.size()}, stream);
  auto scaled = expected.get();
  for (float& v : scaled) v *= kProductScale;

  for (const std::size_t fit : {rows, std::size_t{128}}) {
    const Operands wide{tokens, 64 + rows};
    OperandView columns = wide.view();
    columns.data += 64;
    columns.cols = rows;
    products.matmul(weights, operand.view(), columns,
                    {scratch.data(), Products::operand_scratch_bytes(fit, cols)}, stream);
    const auto all = wide.values();
    std::vector<float> got;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i % wide.cols >= 64) got.push_back(all[i]);
    }
    EXPECT_TRUE(equal_bits(got, rounded(scaled), rows)) << "scratch for " << fit << " rows";
  }
}

TEST_F(CudaOperands, BiasIsAddedToWhatIsScaled) {
  for (const std::size_t cols : {1U, 64U, 1027U}) {
    const std::size_t rows = 9;
    const auto x = rounded(normal_floats(rows * cols, 4));
    const auto bias = normal_floats(cols, 5);
    const Operands y{rows, cols};
    const DeviceArray<float> device_x(x);
    const DeviceArray<float> device_bias(bias);
    round_rows({device_x.data(), rows, cols}, y.view(), stream);
    add_bias(y.view(), device_bias.data(), stream);
    std::vector<float> expected(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      expected[i] = x[i] + bias[i % cols] * kProductScale;
    }
    EXPECT_TRUE(equal_bits(y.values(), rounded(expected), cols)) << cols;
    EXPECT_TRUE(y.followed_by_zeros()) << cols;
  }
}

TEST_F(CudaOperands, RefusesWrongShapes) {
  const Operands a{4, 64};
  const Operands b{4, 72};
  EXPECT_THROW(swiglu(a.view(), b.view(), a.view(true), stream), Error);
  EXPECT_THROW(swiglu(a.view(), a.view(), a.view(), stream), Error) << "without factors";
  OperandView odd = a.view();
  odd.data += 1;
  EXPECT_THROW(rms_norm({nullptr, 4, 64}, nullptr, 1e-6F, odd, stream), Error);
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda
