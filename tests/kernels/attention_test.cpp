// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention.hpp"

#include <gtest/gtest.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "kernel_test_data.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

struct Problem {
  AttentionShape shape;
  std::vector<float> q, keys, values;

  explicit Problem(const AttentionShape& shape_in) : shape(shape_in) {
    shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
    const std::size_t cached = (shape.past + shape.tokens) * position_stride();
    q = normal_floats(shape.tokens * row(), 1);
    keys = normal_floats(cached, 2);
    values = normal_floats(cached, 3);
    // Whatever follows the last position must not be read.
    keys.resize(cached + 70 * position_stride(), NAN);
    values.resize(keys.size(), NAN);
  }

  [[nodiscard]] std::size_t row() const { return shape.heads * shape.head_dim; }
  [[nodiscard]] std::size_t position_stride() const { return shape.kv_heads * shape.head_dim; }
  [[nodiscard]] KvCacheView cache() const {
    return KvCacheView::of(keys.data(), values.data(), position_stride());
  }

  // The prompt in ubatches of at most `ubatch` tokens.
  [[nodiscard]] std::vector<float> run(InstructionSet set, std::size_t ubatch) const {
    std::vector<float> out(q.size(), NAN);
    for (std::size_t first = 0; first < shape.tokens; first += ubatch) {
      AttentionShape part = shape;
      part.past = shape.past + first;
      part.tokens = std::min(ubatch, shape.tokens - first);
      attention(part, {q.data() + first * row(), part.tokens, row()}, cache(),
                {out.data() + first * row(), part.tokens, row()}, set);
    }
    return out;
  }
};

std::vector<double> reference(const Problem& p, std::size_t t, std::size_t h) {
  const std::size_t dim = p.shape.head_dim;
  const std::size_t kv = h / (p.shape.heads / p.shape.kv_heads);
  const float* q = p.q.data() + t * p.row() + h * dim;
  std::vector<double> weights(p.shape.past + t + 1);
  double sum = 0.0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float* key = p.keys.data() + i * p.position_stride() + kv * dim;
    double score = 0.0;
    for (std::size_t d = 0; d < dim; ++d) {
      score += static_cast<double>(q[d]) * static_cast<double>(key[d]);
    }
    weights[i] = std::exp(score * static_cast<double>(p.shape.scale));
    sum += weights[i];
  }
  std::vector<double> out(dim);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float* value = p.values.data() + i * p.position_stride() + kv * dim;
    for (std::size_t d = 0; d < dim; ++d)
      out[d] += weights[i] / sum * static_cast<double>(value[d]);
  }
  return out;
}

class Attention : public testing::TestWithParam<InstructionSet> {};

// Tolerance: scores are sums of up to 256 products of unit normals, scaled to unit size, so the
// weights are within a few 1e-7 of exact; outputs are averages of unit normals. One key more or
// less out of 200 changes them by about 5e-3.
TEST_P(Attention, AgreesWithDouble) {
  const AttentionShape shapes[] = {
      {.tokens = 1, .heads = 1, .kv_heads = 1, .head_dim = 8, .past = 0},
      {.tokens = 1, .heads = 7, .kv_heads = 1, .head_dim = 128, .past = 200},
      {.tokens = 70, .heads = 4, .kv_heads = 2, .head_dim = 24, .past = 0},
      {.tokens = 5, .heads = 6, .kv_heads = 6, .head_dim = 64, .past = 63},
      {.tokens = 65, .heads = 5, .kv_heads = 1, .head_dim = 40, .past = 64},
      {.tokens = 9, .heads = 2, .kv_heads = 1, .head_dim = 256, .past = 130},
      {.tokens = 200, .heads = 2, .kv_heads = 2, .head_dim = 80, .past = 3},
  };
  for (const AttentionShape& shape : shapes) {
    const Problem p(shape);
    const auto out = p.run(GetParam(), shape.tokens);
    for (std::size_t t = 0; t < shape.tokens; ++t) {
      for (std::size_t h = 0; h < shape.heads; ++h) {
        const auto expected = reference(p, t, h);
        for (std::size_t d = 0; d < shape.head_dim; ++d) {
          ASSERT_NEAR(static_cast<double>(out[t * p.row() + h * shape.head_dim + d]), expected[d],
                      2e-6)
              << "head_dim " << shape.head_dim << ", token " << t << ", head " << h << ", " << d;
        }
      }
    }
  }
}

TEST_P(Attention, BitsDoNotDependOnHowThePromptIsCut) {
  const Problem p({.tokens = 150, .heads = 6, .kv_heads = 2, .head_dim = 32, .past = 0});
  const auto whole = p.run(GetParam(), 150);
  for (const std::size_t ubatch : {1U, 7U, 64U, 100U}) {
    EXPECT_TRUE(same_bits(p.run(GetParam(), ubatch), whole)) << "ubatches of " << ubatch;
  }
}

TEST_P(Attention, BitsDoNotDependOnTheNumberOfThreads) {
  const Problem p({.tokens = 130, .heads = 8, .kv_heads = 4, .head_dim = 64, .past = 10});
  std::vector<float> one;
  std::vector<float> two;
  tbb::task_arena(1).execute([&] { one = p.run(GetParam(), 130); });
  tbb::task_arena(2).execute([&] { two = p.run(GetParam(), 130); });
  EXPECT_TRUE(same_bits(one, two));
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  Problem p({.tokens = 70, .heads = 1, .kv_heads = 1, .head_dim = 8, .past = 0});
  for (float& value : p.q) value *= 1000.0F;
  // The softmax is then one-hot: every output is the value whose key fits best.
  const auto out = p.run(GetParam(), 70);
  const std::size_t dim = 8;
  for (std::size_t t = 0; t < 70; ++t) {
    const float best = *std::min_element(
        p.values.data(), p.values.data() + (t + 1) * dim,
        [&](float a, float b) { return std::abs(a - out[t * dim]) < std::abs(b - out[t * dim]); });
    EXPECT_NEAR(out[t * dim], best, 1e-3) << t;
  }
}

TEST_P(Attention, HalfCacheGivesTheBitsOfItsRoundedValues) {
  Problem p({.tokens = 20, .heads = 4, .kv_heads = 2, .head_dim = 16, .past = 60});
  const std::size_t elements = p.position_stride() * 80;
  const auto keys = finite_blocks(WeightType::f16, 1, elements, 8);
  const auto values = finite_blocks(WeightType::f16, 1, elements, 9);
  dequantize(WeightType::f16, keys.data(), p.keys.data(), elements);
  dequantize(WeightType::f16, values.data(), p.values.data(), elements);
  std::vector<float> out(p.q.size());
  attention(p.shape, view(p.q, 20, p.row()),
            {WeightType::f16, keys.data(), values.data(), p.position_stride()},
            view(out, 20, p.row()), GetParam());
  EXPECT_TRUE(same_bits(out, p.run(GetParam(), 20)));
}

TEST_P(Attention, RefusesShapesThatDoNotAgree) {
  const Problem p({.tokens = 2, .heads = 4, .kv_heads = 2, .head_dim = 8, .past = 0});
  std::vector<float> out(p.q.size());
  const auto run = [&](const AttentionShape& shape) {
    attention(shape, view(p.q, 2, p.row()), p.cache(), view(out, 2, p.row()), GetParam());
  };
  AttentionShape shape = p.shape;
  run(shape);
  shape.kv_heads = 3;
  EXPECT_THROW(run(shape), Error);
  shape = p.shape;
  shape.head_dim = 12;
  EXPECT_THROW(run(shape), Error);
  shape = p.shape;
  shape.kv_heads = 4;
  EXPECT_THROW(run(shape), Error) << "the cache's positions are too close";
  shape = p.shape;
  shape.tokens = 3;
  EXPECT_THROW(run(shape), Error);
}

std::string set_name(const testing::TestParamInfo<InstructionSet>& info) {
  return std::string(name(info.param));
}

INSTANTIATE_TEST_SUITE_P(, Attention, testing::ValuesIn(available_instruction_sets()), set_name);

}  // namespace
}  // namespace tensor_pager::kernels::cpu
