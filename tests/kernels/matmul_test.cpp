// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tbb/task_arena.h>

#include <cmath>
#include <string>

#include "kernel_test_data.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

struct Problem {
  WeightType type;
  std::size_t rows, cols, tokens;
  std::vector<std::byte> blocks;
  std::vector<float> x;

  Problem(WeightType type_in, std::size_t rows_in, std::size_t cols_in, std::size_t tokens_in)
      : type(type_in),
        rows(rows_in),
        cols(cols_in),
        tokens(tokens_in),
        blocks(finite_blocks(type, rows, cols, 3)),
        x(normal_floats(tokens * cols, 4)) {}

  [[nodiscard]] Weights weights() const { return {type, blocks.data(), rows, cols}; }
  [[nodiscard]] ConstMatrixView inputs() const { return view(x, tokens, cols); }

  [[nodiscard]] std::vector<float> product(InstructionSet set) const {
    std::vector<float> y(tokens * rows, NAN);
    matmul(weights(), inputs(), view(y, tokens, rows), {.instruction_set = set});
    return y;
  }

  [[nodiscard]] std::string text() const {
    return std::string(name(type)) + " " + std::to_string(rows) + "x" + std::to_string(cols) +
           " for " + std::to_string(tokens) + " tokens";
  }
};

// Tolerance: 16 units of 2^-24 of sum |w x|. Partial sums are at most 128 terms long in the
// narrowest vectors and rounding errors add up like a random walk; leaving out one term of a
// thousand would miss this by a factor of a thousand.
void expect_close_to_double(const Problem& p, const std::vector<float>& y) {
  std::vector<float> w(p.rows * p.cols);
  dequantize(p.type, p.blocks.data(), w.data(), w.size(), InstructionSet::scalar);
  for (std::size_t t = 0; t < p.tokens; ++t) {
    for (std::size_t r = 0; r < p.rows; ++r) {
      double sum = 0.0;
      double magnitude = 0.0;
      for (std::size_t k = 0; k < p.cols; ++k) {
        const double term =
            static_cast<double>(w[r * p.cols + k]) * static_cast<double>(p.x[t * p.cols + k]);
        sum += term;
        magnitude += std::abs(term);
      }
      ASSERT_NEAR(static_cast<double>(y[t * p.rows + r]), sum, 16 * 0x1p-24 * magnitude)
          << p.text() << ", row " << r << ", token " << t;
    }
  }
}

class Matmul : public testing::TestWithParam<InstructionSet> {};

TEST_P(Matmul, AgreesWithDoubleForEveryType) {
  for (const WeightType type : all_weight_types()) {
    for (const std::size_t tokens : {1U, 2U, 7U}) {
      const Problem p(type, 9, 1280, tokens);
      expect_close_to_double(p, p.product(GetParam()));
    }
  }
}

TEST_P(Matmul, AgreesWithDoubleForOddShapes) {
  for (const std::size_t cols : {1U, 15U, 16U, 17U, 511U, 1025U, 2063U}) {
    for (const std::size_t rows : {1U, 4U, 67U}) {
      for (const std::size_t tokens : {1U, 3U, 5U, 13U}) {
        const WeightType type = cols % 2 == 0 ? WeightType::f16 : WeightType::f32;
        const Problem p(type, rows, cols, tokens);
        expect_close_to_double(p, p.product(GetParam()));
      }
    }
  }
}

TEST_P(Matmul, ATokenAloneGivesTheBitsItHasInABatch) {
  for (const WeightType type : all_weight_types()) {
    for (const std::size_t cols : {256U, 2304U, block_elements(type) == 1 ? 1043U : 1536U}) {
      const Problem p(type, 21, cols, 13);
      const auto together = p.product(GetParam());
      for (std::size_t t = 0; t < p.tokens; ++t) {
        std::vector<float> alone(p.rows);
        matmul(p.weights(), {p.inputs().row(t), 1, cols}, view(alone, 1, p.rows),
               {.instruction_set = GetParam()});
        const std::vector<float> in_batch(together.begin() + static_cast<long>(t * p.rows),
                                          together.begin() + static_cast<long>((t + 1) * p.rows));
        ASSERT_TRUE(same_bits(alone, in_batch)) << p.text() << ", token " << t;
      }
    }
  }
}

TEST_P(Matmul, SlicesOfRowsGiveTheBitsOfTheWhole) {
  for (const WeightType type : {WeightType::q4_k, WeightType::q6_k, WeightType::f16}) {
    for (const std::size_t tokens : {1U, 8U}) {
      const Problem p(type, 71, 768, tokens);
      std::vector<float> y(tokens * p.rows, NAN);
      const std::size_t bounds[] = {0, 5, 6, 64, 71};
      for (std::size_t i = 0; i + 1 < std::size(bounds); ++i) {
        const std::size_t count = bounds[i + 1] - bounds[i];
        matmul(p.weights().slice(bounds[i], count), p.inputs(),
               {y.data() + bounds[i], tokens, count, p.rows}, {.instruction_set = GetParam()});
      }
      EXPECT_TRUE(same_bits(y, p.product(GetParam()))) << p.text();
    }
  }
}

TEST_P(Matmul, BitsDoNotDependOnTheNumberOfThreads) {
  for (const std::size_t tokens : {1U, 9U}) {
    const Problem p(WeightType::q5_k, 259, 1024, tokens);
    std::vector<float> one;
    std::vector<float> two;
    tbb::task_arena(1).execute([&] { one = p.product(GetParam()); });
    tbb::task_arena(2).execute([&] { two = p.product(GetParam()); });
    EXPECT_TRUE(same_bits(one, two)) << p.text();
  }
}

TEST_P(Matmul, AddsBiasAndAccumulates) {
  for (const std::size_t tokens : {1U, 4U}) {
    const Problem p(WeightType::q8_0, 10, 64, tokens);
    const auto product = p.product(GetParam());
    const auto bias = normal_floats(p.rows, 5);
    const auto residual = normal_floats(tokens * p.rows, 6);
    auto y = residual;
    matmul(p.weights(), p.inputs(), view(y, tokens, p.rows),
           {.bias = bias.data(), .accumulate = true, .instruction_set = GetParam()});
    for (std::size_t i = 0; i < y.size(); ++i) {
      EXPECT_EQ(y[i], residual[i] + (product[i] + bias[i % p.rows])) << tokens << " " << i;
    }
  }
}

TEST_P(Matmul, TheFactorOfWeightsMultipliesTheirProductOnly) {
  for (const std::size_t tokens : {1U, 4U}) {
    const Problem p(WeightType::nvfp4, 10, 128, tokens);
    const auto product = p.product(GetParam());
    const auto bias = normal_floats(p.rows, 5);
    const auto residual = normal_floats(tokens * p.rows, 6);
    Weights weights = p.weights();
    weights.factor = 0.3F;
    const MatmulOptions options{
        .bias = bias.data(), .accumulate = true, .instruction_set = GetParam()};
    auto y = residual;
    matmul(weights.slice(0, 4), p.inputs(), {y.data(), tokens, 4, p.rows}, options);
    MatmulOptions rest = options;
    rest.bias = bias.data() + 4;
    matmul(weights.slice(4, 6), p.inputs(), {y.data() + 4, tokens, 6, p.rows}, rest);
    for (std::size_t i = 0; i < y.size(); ++i) {
      EXPECT_EQ(y[i], residual[i] + (0.3F * product[i] + bias[i % p.rows])) << tokens << " " << i;
    }
  }
}

TEST_P(Matmul, HonoursStridesAndLeavesTheGapsAlone) {
  const Problem p(WeightType::f32, 6, 40, 3);
  std::vector<float> wide_x(p.tokens * 50, NAN);
  for (std::size_t t = 0; t < p.tokens; ++t) {
    std::copy_n(p.inputs().row(t), p.cols, wide_x.data() + t * 50);
  }
  std::vector<float> wide_y(p.tokens * 9, -7.0F);
  matmul(p.weights(), {wide_x.data(), p.tokens, p.cols, 50}, {wide_y.data(), p.tokens, p.rows, 9},
         {.instruction_set = GetParam()});
  const auto y = p.product(GetParam());
  for (std::size_t i = 0; i < wide_y.size(); ++i) {
    const std::size_t column = i % 9;
    EXPECT_EQ(wide_y[i], column < p.rows ? y[i / 9 * p.rows + column] : -7.0F) << i;
  }
}

TEST_P(Matmul, RefusesShapesThatDoNotAgree) {
  const Problem p(WeightType::f32, 4, 8, 2);
  std::vector<float> y(8);
  EXPECT_THROW(matmul(p.weights(), view(p.x, 2, 7), view(y, 2, 4)), Error);
  EXPECT_THROW(matmul(p.weights(), p.inputs(), view(y, 2, 3)), Error);
  EXPECT_THROW(matmul(p.weights(), p.inputs(), {y.data(), 2, 4, 3}), Error);
  EXPECT_THROW(static_cast<void>(p.weights().slice(3, 2)), Error);
  EXPECT_THROW(matmul({WeightType::q4_k, p.blocks.data(), 4, 8}, p.inputs(), view(y, 2, 4)), Error);
}

std::string set_name(const testing::TestParamInfo<InstructionSet>& info) {
  return std::string(name(info.param));
}

INSTANTIATE_TEST_SUITE_P(, Matmul, testing::ValuesIn(available_instruction_sets()), set_name);

}  // namespace
}  // namespace tensor_pager::kernels::cpu
