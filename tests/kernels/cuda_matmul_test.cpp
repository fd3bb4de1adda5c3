// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "cuda_test_device.hpp"
#include "kernels/cuda/digits.hpp"
#include "kernels/cuda/matmul.hpp"
#include "kernels/cuda/operand.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

struct Shape {
  WeightType type;
  std::size_t rows, cols, tokens;
};

// Products read up to the next multiple of sixteen bytes.
std::vector<std::byte> in_sixteens(std::vector<std::byte> blocks) {
  blocks.resize((blocks.size() + 15) / 16 * 16);
  return blocks;
}

// Weights and inputs in host and device memory.
struct Problem {
  Shape shape;
  std::vector<std::byte> blocks;
  std::vector<float> x;
  DeviceArray<std::byte> device_blocks;
  DeviceArray<float> device_x;

  explicit Problem(const Shape& s) : Problem(s, normal_floats(s.tokens * s.cols, 4)) {}
  Problem(const Shape& s, const std::vector<float>& inputs)
      : shape(s),
        blocks(in_sixteens(finite_blocks(s.type, s.rows, s.cols, 3))),
        x(inputs),
        device_blocks(blocks),
        device_x(x) {}

  [[nodiscard]] Weights weights(float factor = 1.0F) const {
    return {shape.type, device_blocks.data(), shape.rows, shape.cols, factor};
  }
  [[nodiscard]] ConstMatrixView inputs() const {
    return {device_x.data(), shape.tokens, shape.cols};
  }
  [[nodiscard]] std::string text() const {
    return std::string(name(shape.type)) + " " + std::to_string(shape.rows) + "x" +
           std::to_string(shape.cols) + " for " + std::to_string(shape.tokens) + " tokens";
  }
};

// What the product is in exact arithmetic once operands have been rounded, and per element the sum
// of |w x|, which the errors of a float32 sum are proportional to.
struct Reference {
  std::vector<float> y;
  std::vector<double> magnitude;
};

double rounded(float v, float scale) {
  return static_cast<double>(static_cast<float>(static_cast<Operand>(v * scale))) /
         static_cast<double>(scale);
}

// The power of two that brings the largest element of an out-of-range row into [1, 2).
float row_scale(const float* x, std::size_t cols) {
  float largest = 0.0F;
  for (std::size_t k = 0; k < cols; ++k) largest = std::max(largest, std::abs(x[k]));
  if (largest == 0.0F || (largest >= 0x1p-8F && largest < 0x1p15F)) return 1.0F;
  return std::ldexp(1.0F, -std::ilogb(largest));
}

enum class Inputs { rounded_to_operands, as_they_are };

Reference reference(const Problem& p, bool scale_rows = false,
                    Inputs inputs = Inputs::rounded_to_operands) {
  const Shape& s = p.shape;
  std::vector<float> w(s.rows * s.cols);
  cpu::dequantize(s.type, p.blocks.data(), w.data(), w.size());
  std::vector<double> weights(w.begin(), w.end());
  std::vector<double> x(p.x.begin(), p.x.end());
  // A single token is multiplied as digits.
  if (s.tokens > 1 && inputs == Inputs::rounded_to_operands) {
    for (std::size_t i = 0; i < w.size(); ++i) weights[i] = rounded(w[i], 1.0F);
    for (std::size_t t = 0; t < s.tokens; ++t) {
      const float scale = scale_rows ? row_scale(p.x.data() + t * s.cols, s.cols) : 1.0F;
      for (std::size_t k = 0; k < s.cols; ++k) {
        x[t * s.cols + k] = rounded(p.x[t * s.cols + k], scale);
      }
    }
  }
  Reference r{std::vector<float>(s.tokens * s.rows), std::vector<double>(s.tokens * s.rows)};
  for (std::size_t t = 0; t < s.tokens; ++t) {
    for (std::size_t row = 0; row < s.rows; ++row) {
      double sum = 0.0;
      double magnitude = 1e-30;
      for (std::size_t k = 0; k < s.cols; ++k) {
        const double term = weights[row * s.cols + k] * x[t * s.cols + k];
        sum += term;
        magnitude += std::abs(term);
      }
      r.y[t * s.rows + row] = static_cast<float>(sum);
      r.magnitude[t * s.rows + row] = magnitude;
    }
  }
  return r;
}

// Tolerance, in units of the sum of |w x|: tensor cores add products with a few bits less than
// float32 has. One term of a thousand left out would be a thousand times as much.
constexpr double kTolerance = 0x1p-19;

class CudaMatmul : public CudaTest {
 protected:
  std::vector<float> product(const Problem& p, const MatmulOptions& options = {},
                             const std::vector<float>& before = {}, std::size_t scratch_rows = 0) {
    const Shape& s = p.shape;
    DeviceArray<float> y(s.tokens * s.rows);
    if (!before.empty()) y.set(before);
    const std::size_t rows = scratch_rows == 0 ? s.rows : scratch_rows;
    const DeviceArray<std::byte> scratch(Products::scratch_bytes(rows, s.cols, s.tokens));
    products().matmul(p.weights(), p.inputs(), {y.data(), s.tokens, s.rows}, options,
                      {scratch.data(), scratch.size()}, stream);
    return y.get();
  }

  Products& products() { return made_.value(); }

  void SetUp() override {
    CudaTest::SetUp();
    if (!IsSkipped()) made_.emplace();
  }

 private:
  std::optional<Products> made_;  // a machine without a GPU may not be able to
};

TEST_F(CudaMatmul, AgreesForEveryType) {
  for (const WeightType type : all_weight_types()) {
    for (const std::size_t tokens : {1U, 2U, 16U, 17U, 64U}) {
      const Problem p({type, 96, 768, tokens});
      const Reference r = reference(p);
      EXPECT_TRUE(close(product(p), r.y, kTolerance, 96, r.magnitude)) << p.text();
    }
  }
}

class CudaFewTokens : public CudaMatmul {
 protected:
  // Tokens as digits, by rows [first, first + count) of the weights.
  std::vector<float> few(const Problem& p, std::size_t first, std::size_t count,
                         const MatmulOptions& options = {}, const std::vector<float>& before = {}) {
    const Shape& s = p.shape;
    const DeviceArray<std::byte> memory(s.tokens * digits_stride(s.cols) * sizeof(float));
    const DigitsView digits{memory.data(), s.tokens, s.cols};
    split_digits(p.inputs(), digits, stream);
    DeviceArray<float> y(s.tokens * count);
    if (!before.empty()) y.set(before);
    const FewTokensProduct product{p.weights().slice(first, count),
                                   {y.data(), s.tokens, count},
                                   options.bias,
                                   options.accumulate};
    products().matmul({&product, 1}, digits, stream);
    return y.get();
  }
};

TEST_F(CudaFewTokens, AreMultipliedAsExactlyAsInFloat32ForEveryType) {
  for (const WeightType type : all_weight_types()) {
    for (const std::size_t tokens : {1U, 2U, 3U, 5U, 8U}) {
      // Rows of the last are long enough for a whole multiprocessor's warps.
      for (const std::size_t cols : {256U, 768U, 5120U, 18944U}) {
        const Problem p({type, 37, cols, tokens});
        const Reference r = reference(p, false, Inputs::as_they_are);
        EXPECT_TRUE(close(few(p, 0, 37), r.y, 0x1p-21, 37, r.magnitude)) << p.text();
      }
    }
  }
}

TEST_F(CudaFewTokens, MayHaveMagnitudesFarApart) {
  const Shape shape{WeightType::q4_k, 48, 1024, 2};
  std::vector<float> x = normal_floats(shape.tokens * shape.cols, 9);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] *= std::ldexp(1.0F, static_cast<int>(i / 256) * 9);
  const Problem p(shape, x);
  const Reference r = reference(p, false, Inputs::as_they_are);
  EXPECT_TRUE(close(few(p, 0, 48), r.y, 0x1p-21, 48, r.magnitude));
}

void expect_equal_bits(const std::vector<float>& a, const std::vector<float>& b,
                       const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i], b[i]) << what << ", element " << i;
}

TEST_F(CudaFewTokens, HaveTheSameBitsHoweverTheyAreTakenTogether) {
  for (const WeightType type : {WeightType::q4_k, WeightType::q5_k, WeightType::q6_k,
                                WeightType::q8_0, WeightType::f16, WeightType::iq3_s}) {
    for (const std::size_t cols : {2048U, 18944U}) {
      const std::size_t rows = 68;  // which a copy engine can take, and, without the first, not
      const Problem together({type, rows, cols, 8});
      const std::vector<float> all = few(together, 0, rows);
      const std::vector<float> part = few(together, 19, 21);
      for (std::size_t t = 0; t < 8; ++t) {
        const std::string what = std::string(name(type)) + " token " + std::to_string(t);
        const auto at = [&](const std::vector<float>& v, std::size_t from, std::size_t count) {
          const auto begin = v.begin() + static_cast<std::ptrdiff_t>(from);
          return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(count));
        };
        const Problem one({type, rows, cols, 1}, at(together.x, t * cols, cols));
        expect_equal_bits(few(one, 0, rows), at(all, t * rows, rows), what + " alone");
        expect_equal_bits(few(one, 19, 21), at(all, t * rows + 19, 21), what + " alone, in part");
        expect_equal_bits(at(part, t * 21, 21), at(all, t * rows + 19, 21), what + " in part");
      }
    }
  }
}

TEST_F(CudaFewTokens, OfTwoTypesHaveTheBitsOfEachAlone) {
  for (const WeightType type : {WeightType::q4_k, WeightType::q5_k}) {
    for (const std::size_t cols : {256U, 3584U, 5120U, 18944U}) {
      const Problem queries({type, 160, cols, 1});
      const Problem keys({type, 32, cols, 1}, queries.x);
      const Problem values({WeightType::q6_k, 32, cols, 1}, queries.x);
      const DeviceArray<std::byte> memory(digits_stride(cols) * sizeof(float));
      const DigitsView digits{memory.data(), 1, cols};
      split_digits(queries.inputs(), digits, stream);
      std::vector<std::unique_ptr<DeviceArray<float>>> results;
      std::vector<FewTokensProduct> all;
      for (const Problem* p : {&queries, &keys, &values}) {
        results.push_back(std::make_unique<DeviceArray<float>>(p->shape.rows));
        all.push_back({p->weights(), {results.back()->data(), 1, p->shape.rows}});
      }
      products().matmul(all, digits, stream);
      const std::string what = std::string(name(type)) + " " + std::to_string(cols);
      expect_equal_bits(results[0]->get(), few(queries, 0, 160), what + ", queries");
      expect_equal_bits(results[1]->get(), few(keys, 0, 32), what + ", keys");
      expect_equal_bits(results[2]->get(), few(values, 0, 32), what + ", values");
    }
  }
}

TEST_F(CudaFewTokens, AddTheirBiasAndAccumulate) {
  const Problem p({WeightType::q6_k, 40, 512, 3});
  const Reference r = reference(p, false, Inputs::as_they_are);
  const std::vector<float> bias = normal_floats(40, 5);
  const std::vector<float> before = normal_floats(3 * 40, 6);
  const DeviceArray<float> device_bias(bias);
  std::vector<float> expected = r.y;
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += bias[i % 40] + before[i];
  EXPECT_TRUE(close(few(p, 0, 40, {.bias = device_bias.data(), .accumulate = true}, before),
                    expected, 0x1p-19, 40, r.magnitude));
}

TEST_F(CudaFewTokens, ThatAreNotNumbersGiveNone) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const WeightType type : {WeightType::q4_k, WeightType::q8_0, WeightType::f16}) {
      std::vector<float> x = normal_floats(2 * 512, 4);
      x[512 + 300] = bad;
      const std::vector<float> y = few(Problem({type, 16, 512, 2}, x), 0, 16);
      for (std::size_t r = 0; r < 16; ++r) {
        EXPECT_TRUE(std::isfinite(y[r])) << name(type);
        EXPECT_FALSE(std::isfinite(y[16 + r])) << name(type);
      }
    }
  }
}

TEST_F(CudaMatmul, AgreesForOddShapes) {
  const Shape shapes[] = {
      {WeightType::f32, 32, 1, 3},       {WeightType::f32, 5, 7, 1},
      {WeightType::f16, 31, 13, 2},      {WeightType::f16, 33, 1025, 1},
      {WeightType::bf16, 64, 100, 17},   {WeightType::bf16, 3, 1000, 1},
      {WeightType::q8_0, 32, 32, 2},     {WeightType::q8_0, 160, 96, 512},
      {WeightType::q4_k, 224, 256, 512}, {WeightType::q6_k, 32, 5120, 33},
      {WeightType::q6_k, 37, 5120, 1},   {WeightType::q4_0, 1, 64, 1},
      {WeightType::f16, 512, 64, 200},   {WeightType::q4_k, 7, 256, 3},
      {WeightType::mxfp4, 33, 96, 1},    {WeightType::mxfp4, 160, 32, 2},
      {WeightType::nvfp4, 37, 64, 1},    {WeightType::iq2_xxs, 5, 5120, 1},
      {WeightType::iq3_s, 6, 256, 1},    {WeightType::iq1_m, 3, 512, 1},
  };
  for (const Shape& shape : shapes) {
    const Problem p(shape);
    const Reference r = reference(p);
    EXPECT_TRUE(close(product(p), r.y, kTolerance, shape.rows, r.magnitude)) << p.text();
  }
}

TEST_F(CudaMatmul, AddsBiasAndAccumulates) {
  for (const std::size_t tokens : {1U, 2U, 64U}) {
    for (const bool with_bias : {false, true}) {
      for (const bool accumulate : {false, true}) {
        for (const bool scale_rows : {false, true}) {
          const Problem p({WeightType::q8_0, 96, 256, tokens});
          const auto bias = normal_floats(96, 5);
          const auto before = normal_floats(tokens * 96, 6);
          const DeviceArray<float> device_bias(bias);
          Reference r = reference(p, scale_rows);
          for (std::size_t i = 0; i < r.y.size(); ++i) {
            if (with_bias) r.y[i] += bias[i % 96];
            if (accumulate) r.y[i] += before[i];
            r.magnitude[i] += 8.0;  // sums of a few unit normals, rounded twice
          }
          const MatmulOptions options{.bias = with_bias ? device_bias.data() : nullptr,
                                      .accumulate = accumulate,
                                      .scale_rows = scale_rows};
          EXPECT_TRUE(close(product(p, options, before), r.y, kTolerance, 96, r.magnitude))
              << p.text() << ", bias " << with_bias << ", accumulate " << accumulate
              << ", scale_rows " << scale_rows;
        }
      }
    }
  }
}

TEST_F(CudaMatmul, TheFactorOfWeightsMultipliesTheirProductOnly) {
  constexpr float kFactor = 0.3F;
  for (const std::size_t tokens : {1U, 2U, 64U}) {
    for (const bool scale_rows : {false, true}) {
      const Problem p({WeightType::nvfp4, 96, 256, tokens});
      const auto bias = normal_floats(96, 5);
      const DeviceArray<float> device_bias(bias);
      const DeviceArray<float> y(normal_floats(tokens * 96, 6));
      Reference r = reference(p, scale_rows);
      const auto before = y.get();
      for (std::size_t i = 0; i < r.y.size(); ++i) {
        r.y[i] = before[i] + (kFactor * r.y[i] + bias[i % 96]);
        r.magnitude[i] += 8.0;  // sums of a few unit normals, rounded twice
      }
      const DeviceArray<std::byte> scratch(Products::scratch_bytes(96, 256, tokens));
      products().matmul(p.weights(kFactor), p.inputs(), {y.data(), tokens, 96},
                        {.bias = device_bias.data(), .accumulate = true, .scale_rows = scale_rows},
                        {scratch.data(), scratch.size()}, stream);
      EXPECT_TRUE(close(y.get(), r.y, kTolerance, 96, r.magnitude))
          << p.text() << ", scale_rows " << scale_rows;
    }
  }
}

TEST_F(CudaMatmul, ScalesRowsOutsideTheRangeOfHalf) {
  const std::size_t tokens = 40;
  const std::size_t cols = 512;
  auto x = normal_floats(tokens * cols, 7);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float scales[] = {1.0F, 1e5F, 1e-6F, 3e7F};
    x[i] *= scales[i / cols % 4];
  }
  std::fill_n(x.begin() + 5 * cols, cols, 0.0F);
  const Problem p({WeightType::q4_k, 64, cols, tokens}, x);
  const Reference r = reference(p, true);
  EXPECT_TRUE(close(product(p, {.scale_rows = true}), r.y, kTolerance, 64, r.magnitude))
      << p.text();

  const auto before = normal_floats(tokens * 64, 8);
  Reference sum = r;
  for (std::size_t i = 0; i < sum.y.size(); ++i) {
    sum.y[i] += before[i];
    sum.magnitude[i] += std::abs(static_cast<double>(before[i]));
  }
  EXPECT_TRUE(close(product(p, {.accumulate = true, .scale_rows = true}, before), sum.y, kTolerance,
                    64, sum.magnitude))
      << p.text() << ", accumulated";
}

TEST_F(CudaMatmul, HonoursStridesAndLeavesTheGapsAlone) {
  for (const std::size_t tokens : {1U, 5U}) {
    const Shape s{WeightType::f16, 64, 40, tokens};
    const Problem p(s);
    std::vector<float> wide_x(tokens * 52, NAN);
    for (std::size_t i = 0; i < p.x.size(); ++i) wide_x[i / 40 * 52 + i % 40] = p.x[i];
    const DeviceArray<float> x(wide_x);
    const DeviceArray<float> y(std::vector<float>(tokens * 80, -7.0F));
    const DeviceArray<std::byte> scratch(Products::scratch_bytes(64, 40, tokens));
    products().matmul(p.weights(), {x.data(), tokens, 40, 52}, {y.data(), tokens, 64, 80}, {},
                      {scratch.data(), scratch.size()}, stream);
    const Reference r = reference(p);
    std::vector<float> expected(tokens * 80, -7.0F);
    std::vector<double> magnitude(tokens * 80, 1e-20);
    for (std::size_t i = 0; i < r.y.size(); ++i) {
      expected[i / 64 * 80 + i % 64] = r.y[i];
      magnitude[i / 64 * 80 + i % 64] = r.magnitude[i];
    }
    EXPECT_TRUE(close(y.get(), expected, kTolerance, 80, magnitude)) << p.text();
  }
}

TEST_F(CudaMatmul, SlicesOfRowsGiveTheBitsOfTheWhole) {
  for (const std::size_t tokens : {1U, 2U, 64U, 512U}) {
    const Problem p({WeightType::q6_k, 704, 1024, tokens});
    const auto whole = product(p);
    const DeviceArray<float> y(tokens * 704);
    const DeviceArray<std::byte> scratch(Products::scratch_bytes(704, 1024, tokens));
    const std::size_t bounds[] = {0, 32, 96, 608, 704};
    for (std::size_t i = 0; i + 1 < std::size(bounds); ++i) {
      const std::size_t rows = bounds[i + 1] - bounds[i];
      products().matmul(p.weights().slice(bounds[i], rows), p.inputs(),
                        {y.data() + bounds[i], tokens, rows, 704}, {},
                        {scratch.data(), scratch.size()}, stream);
    }
    EXPECT_TRUE(equal_bits(y.get(), whole, 704)) << p.text() << ", rows cut at 32, 96, 608";
    EXPECT_TRUE(equal_bits(product(p, {}, {}, 64), whole, 704))
        << p.text() << ", scratch for 64 rows";
  }
}

TEST_F(CudaMatmul, BitsDoNotDependOnTheTokensMultipliedTogether) {
  const Problem p({WeightType::q4_k, 256, 1024, 515});
  const auto whole = product(p);
  for (const std::size_t ubatch : {2U, 16U, 103U, 512U}) {
    const DeviceArray<float> y(515 * 256);
    const DeviceArray<std::byte> scratch(Products::scratch_bytes(256, 1024, ubatch));
    for (std::size_t first = 0; first < 515; first += ubatch) {
      // One token alone is multiplied in float32; it is not compared.
      const std::size_t tokens = std::min(ubatch, 515 - first);
      products().matmul(p.weights(), {p.device_x.data() + first * 1024, tokens, 1024},
                        {y.data() + first * 256, tokens, 256}, {}, {scratch.data(), scratch.size()},
                        stream);
    }
    auto cut = y.get();
    if (515 % ubatch == 1) std::copy_n(whole.end() - 256, 256, cut.end() - 256);
    EXPECT_TRUE(equal_bits(cut, whole, 256)) << p.text() << ", " << ubatch << " at a time";
  }
}

TEST_F(CudaMatmul, TwentyRunsGiveTheSameBits) {
  for (const std::size_t tokens : {1U, 512U}) {
    const Problem p({WeightType::q4_k, 1024, 2048, tokens});
    const auto first = product(p);
    for (int run = 1; run < 20; ++run) {
      ASSERT_TRUE(equal_bits(product(p), first, 1024)) << p.text() << ", run " << run;
    }
  }
}

TEST_F(CudaMatmul, AlgorithmsChosenInARehearsalGiveTheSameBits) {
  const Shape shapes[] = {{WeightType::q4_k, 1024, 2048, 512},
                          {WeightType::q4_k, 5120, 1024, 300},
                          {WeightType::q6_k, 704, 1024, 64},
                          {WeightType::f16, 2560, 4096, 2048}};
  for (const Shape& shape : shapes) {
    for (const bool with_bias : {false, true}) {
      const Problem p(shape);
      const DeviceArray<float> bias(normal_floats(shape.rows, 5));
      const MatmulOptions options{.bias = with_bias ? bias.data() : nullptr};
      const auto usual = product(p, options);
      products() = Products();  // forgets the shape
      products().rehearse(true);
      product(p, options);
      products().rehearse(false);
      EXPECT_TRUE(equal_bits(product(p, options), usual, shape.rows)) << p.text();
    }
  }
}

TEST_F(CudaMatmul, RefusesWrongShapesAndTooLittleScratch) {
  const Problem p({WeightType::q4_k, 128, 256, 4});
  const DeviceArray<float> y(4 * 128);
  const std::size_t enough = Products::scratch_bytes(64, 256, 4);
  const DeviceArray<std::byte> scratch(enough);
  const Scratch good{scratch.data(), enough};
  const MatrixView out{y.data(), 4, 128};
  products().matmul(p.weights(), p.inputs(), out, {}, good, stream);
  EXPECT_THROW(products().matmul(p.weights(), {p.device_x.data(), 4, 255}, out, {}, good, stream),
               Error);
  EXPECT_THROW(products().matmul(p.weights(), p.inputs(), {y.data(), 4, 127}, {}, good, stream),
               Error);
  EXPECT_THROW(
      products().matmul(p.weights(), p.inputs(), out, {}, {scratch.data(), enough - 512}, stream),
      Error);
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda
