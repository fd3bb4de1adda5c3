// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "kernel_test_data.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/error.hpp"
#include "kernels/products.hpp"

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

// What is multiplied with float inputs as they are: unquantised types, code books, and everything
// in the baseline's instructions.
bool inputs_are_exact(WeightType type, InstructionSet set) {
  using enum WeightType;
  constexpr WeightType kIntegerProducts[] = {q4_0, q4_1, q5_0, q5_1, q8_0,   q2_k,
                                             q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs};
  return set == InstructionSet::scalar ||
         std::find(std::begin(kIntegerProducts), std::end(kIntegerProducts), type) ==
             std::end(kIntegerProducts);
}

// Half a unit of the 16-bit codes of each input's group of 32.
std::vector<double> input_errors(const Problem& p, std::size_t token, InstructionSet set) {
  std::vector<double> errors(p.cols);
  if (inputs_are_exact(p.type, set)) return errors;
  const float* x = p.inputs().row(token);
  for (std::size_t k = 0; k < p.cols; ++k) {
    const std::size_t first = k / 32 * 32;
    double largest = 0.0;
    for (std::size_t i = first; i < std::min(first + 32, p.cols); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(x[i])));
    }
    errors[k] = 0.5 * largest / 32767.0;
  }
  return errors;
}

// Tolerance: 16 units of 2^-24 of sum |w x|. Partial sums are at most 128 terms long in the
// narrowest vectors and rounding errors add up like a random walk; leaving out one term of a
// thousand would miss this by a factor of a thousand. Where inputs are rounded, an offset and a
// code may cancel in a weight, so that the terms are larger than |w x|: thrice as much, and the
// rounding of the inputs at its worst.
void expect_close_to_double(const Problem& p, const std::vector<float>& y, InstructionSet set) {
  std::vector<float> w(p.rows * p.cols);
  dequantize(p.type, p.blocks.data(), w.data(), w.size(), InstructionSet::scalar);
  double error_squares = 0.0;
  double scale_squares = 0.0;
  for (std::size_t t = 0; t < p.tokens; ++t) {
    const std::vector<double> errors = input_errors(p, t, set);
    for (std::size_t r = 0; r < p.rows; ++r) {
      double sum = 0.0;
      double magnitude = 0.0;
      double rounding = 0.0;
      double w_squares = 0.0;
      double x_squares = 0.0;
      for (std::size_t k = 0; k < p.cols; ++k) {
        const auto weight = static_cast<double>(w[r * p.cols + k]);
        const auto input = static_cast<double>(p.x[t * p.cols + k]);
        sum += weight * input;
        magnitude += std::abs(weight * input);
        rounding += std::abs(weight) * errors[k];
        w_squares += weight * weight;
        x_squares += input * input;
      }
      const double units = inputs_are_exact(p.type, set) ? 16 : 48;
      const double actual = static_cast<double>(y[t * p.rows + r]);
      ASSERT_NEAR(actual, sum, units * 0x1p-24 * magnitude + rounding)
          << p.text() << ", row " << r << ", token " << t;
      error_squares += (actual - sum) * (actual - sum);
      scale_squares += w_squares * x_squares;
    }
  }
  EXPECT_LE(std::sqrt(error_squares), 1e-4 * std::sqrt(scale_squares)) << p.text();
}

class Matmul : public testing::TestWithParam<InstructionSet> {};

TEST_P(Matmul, AgreesWithDoubleForEveryType) {
  for (const WeightType type : all_weight_types()) {
    for (const std::size_t tokens : {1U, 2U, 3U, 4U, 5U, 17U}) {
      const Problem p(type, 37, 1280, tokens);
      expect_close_to_double(p, p.product(GetParam()), GetParam());
    }
  }
}

TEST_P(Matmul, AgreesWithDoubleForOddShapes) {
  for (const std::size_t cols : {1U, 15U, 16U, 17U, 511U, 1025U, 2063U}) {
    for (const std::size_t rows : {1U, 4U, 67U}) {
      for (const std::size_t tokens : {1U, 3U, 5U, 13U}) {
        const WeightType type = cols % 2 == 0 ? WeightType::f16 : WeightType::f32;
        const Problem p(type, rows, cols, tokens);
        expect_close_to_double(p, p.product(GetParam()), GetParam());
      }
    }
  }
}

TEST_P(Matmul, ATokenAloneGivesTheBitsItHasInABatch) {
  for (const WeightType type : all_weight_types()) {
    const std::size_t last_block = block_elements(type) == 256 ? 0 : 64;
    for (const std::size_t cols : {256U, 2304U, block_elements(type) == 1 ? 1043U : 1536U}) {
      const Problem p(type, 21, cols + last_block, 13);
      const auto together = p.product(GetParam());
      for (std::size_t t = 0; t < p.tokens; ++t) {
        std::vector<float> alone(p.rows);
        matmul(p.weights(), {p.inputs().row(t), 1, p.cols}, view(alone, 1, p.rows),
               {.instruction_set = GetParam()});
        const std::vector<float> in_batch(together.begin() + static_cast<long>(t * p.rows),
                                          together.begin() + static_cast<long>((t + 1) * p.rows));
        ASSERT_TRUE(same_bits(alone, in_batch)) << p.text() << ", token " << t;
      }
    }
  }
}

// Kernels for up to four tokens are others than those for more, and up to 96 tokens share a panel.
TEST_P(Matmul, AnyNumberOfTokensGivesTheBitsOfMany) {
  for (const WeightType type : all_weight_types()) {
    const Problem p(type, 67, 1280, 99);
    const auto together = p.product(GetParam());
    for (const std::size_t tokens : {2U, 3U, 4U, 5U, 6U, 7U, 8U, 16U, 34U, 96U, 97U}) {
      std::vector<float> some(tokens * p.rows, NAN);
      matmul(p.weights(), {p.x.data(), tokens, p.cols}, view(some, tokens, p.rows),
             {.instruction_set = GetParam()});
      const std::vector<float> begin(together.begin(),
                                     together.begin() + static_cast<long>(some.size()));
      ASSERT_TRUE(same_bits(some, begin)) << p.text() << ", of which " << tokens;
    }
  }
}

TEST_P(Matmul, IntegerProductsHaveTheSameBitsInAllInstructionSets) {
  for (const WeightType type : all_weight_types()) {
    if (inputs_are_exact(type, GetParam())) continue;
    for (const std::size_t tokens : {1U, 9U}) {
      const Problem p(type, 35, 2304, tokens);
      EXPECT_TRUE(same_bits(p.product(GetParam()), p.product(InstructionSet::avx2))) << p.text();
    }
  }
}

// A sum of 32 products is largest when all codes and inputs are: it has to fit 32 bits.
TEST_P(Matmul, SumsOfTheLargestCodesDoNotOverflow) {
  for (const WeightType type : all_weight_types()) {
    if (inputs_are_exact(type, GetParam())) continue;
    for (const std::byte byte :
         {std::byte{0x00}, std::byte{0x3F}, std::byte{0x7F}, std::byte{0x80}, std::byte{0xFF}}) {
      for (const float sign : {1.0F, -1.0F}) {
        for (const std::size_t tokens : {1U, 5U}) {
          Problem p(type, 9, 512, tokens);
          for (std::byte& b : p.blocks) b = byte;
          for (float& x : p.x) x = sign;
          std::vector<float> w(p.rows * p.cols);
          dequantize(type, p.blocks.data(), w.data(), w.size(), InstructionSet::scalar);
          const bool finite =
              std::all_of(w.begin(), w.end(), [](float f) { return std::abs(f) < 1e30F; });
          if (finite) expect_close_to_double(p, p.product(GetParam()), GetParam());
        }
      }
    }
  }
}

// The pass looks for logits that are no numbers; rounding must not make numbers of them.
TEST_P(Matmul, AnInputThatIsNoNumberLeavesNoOutputOne) {
  for (const WeightType type : all_weight_types()) {
    for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
      for (const std::size_t tokens : {1U, 4U, 6U}) {
        Problem p(type, 9, 768, tokens);
        p.x[(tokens - 1) * p.cols + 300] = bad;
        const auto clean = Problem(type, 9, 768, tokens).product(GetParam());
        const auto y = p.product(GetParam());
        for (std::size_t i = 0; i < y.size(); ++i) {
          if (i / p.rows + 1 < tokens) {
            ASSERT_EQ(y[i], clean[i]) << p.text() << ", of another token";
          } else {
            ASSERT_FALSE(std::isfinite(y[i])) << p.text() << ", " << bad;
          }
        }
      }
    }
  }
}

TEST_P(Matmul, InputsMayBeZeroTinyOrHuge) {
  for (const WeightType type : {WeightType::q4_k, WeightType::q6_k, WeightType::q8_0}) {
    for (const std::size_t tokens : {1U, 5U}) {
      Problem p(type, 5, 512, tokens);
      const auto usual = p.product(GetParam());
      for (const float factor : {0.0F, -0.0F, 0x1p-90F, 0x1p+60F}) {
        Problem scaled = p;
        for (float& x : scaled.x) x *= factor;
        const auto y = scaled.product(GetParam());
        for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], usual[i] * factor) << factor;
      }
      for (float& x : p.x) x = 1e-40F;
      for (const float y : p.product(GetParam())) ASSERT_LT(std::abs(y), 1e-30F);
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

TEST_P(Matmul, ProductsOfTheSameInputsGiveTheBitsOfEach) {
  using enum WeightType;
  for (const std::size_t tokens : {1U, 3U, 20U}) {
    const std::vector<float> bias = normal_floats(200, 8);
    std::vector<Problem> problems;
    std::vector<std::vector<float>> together;
    for (const auto& [type, rows] :
         {std::pair(q4_k, 200U), std::pair(q6_k, 3U), std::pair(f16, 40U), std::pair(q4_k, 130U)}) {
      problems.emplace_back(type, rows, 512, tokens);
      together.emplace_back(tokens * rows, 1.5F);
    }
    const auto options = [&](std::size_t i) {
      return MatmulOptions{.bias = i == 0 ? bias.data() : nullptr,
                           .accumulate = i == 3,
                           .instruction_set = GetParam()};
    };
    const ConstMatrixView x = problems.front().inputs();
    std::vector<SharedProduct> products;
    for (std::size_t i = 0; i < problems.size(); ++i) {
      products.push_back(
          {problems[i].weights(), view(together[i], tokens, problems[i].rows), options(i)});
    }
    tbb::task_arena(3).execute([&] { matmul(products, x); });
    for (std::size_t i = 0; i < problems.size(); ++i) {
      std::vector<float> alone(tokens * problems[i].rows, 1.5F);
      matmul(problems[i].weights(), x, view(alone, tokens, problems[i].rows), options(i));
      EXPECT_EQ(together[i], alone) << problems[i].text();
    }
  }
  const Problem p(q4_k, 8, 256, 1);
  std::vector<float> y(8);
  std::vector<SharedProduct> products(
      2, {p.weights(), view(y, 1, 8), {.instruction_set = GetParam()}});
  products[1].w.cols = 512;
  EXPECT_THROW(matmul(products, p.inputs()), Error);
  matmul(std::span<const SharedProduct>(), p.inputs());
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
