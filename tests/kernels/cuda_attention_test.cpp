// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "cuda_test_device.hpp"
#include "kernels/attention.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/digits.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

std::vector<__half> halves(const std::vector<float>& values) {
  std::vector<__half> result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) result[i] = __float2half_rn(values[i]);
  return result;
}

std::vector<float> floats(const std::vector<__half>& values) {
  std::vector<float> result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) result[i] = __half2float(values[i]);
  return result;
}

// Views of either overload of attention().
struct FloatValues {
  using Value = float;
  using ConstView = ConstMatrixView;
  using View = MatrixView;
  // Weights are rounded to halves, 2^-12 of each at most, and outputs are averages of unit normals
  // with those weights: at most 2^-12 times the mean of |v|, which for the first positions is up to
  // about 4. One key more or less out of 300 would change outputs by about 3e-3.
  static constexpr double kTolerance = 8e-4;
  static constexpr double kOneTokenTolerance = 3e-6;  // two halves for each number
};
struct HalfValues {
  using Value = __half;
  using ConstView = ConstHalfMatrixView;
  using View = HalfMatrixView;
  // Outputs of up to 4 are rounded to halves besides.
  static constexpr double kTolerance = FloatValues::kTolerance + 1e-3;
  static constexpr double kOneTokenTolerance = 1e-3;
};

template <class Value>
std::vector<Value> as(const std::vector<float>& values) {
  if constexpr (std::is_same_v<Value, float>) {
    return values;
  } else {
    return halves(values);
  }
}
std::vector<float> as_floats(const std::vector<float>& values) {
  return values;
}
std::vector<float> as_floats(const std::vector<__half>& values) {
  return floats(values);
}

// Queries, keys and values that are halves already, so that the CPU computes with the same.
template <class Types>
struct Problem {
  using Value = typename Types::Value;
  using ConstView = typename Types::ConstView;
  using View = typename Types::View;

  AttentionShape shape;
  std::vector<float> q;
  std::vector<__half> keys, values;
  DeviceArray<Value> device_q;
  DeviceArray<__half> device_keys, device_values;

  explicit Problem(const AttentionShape& s, float query_scale = 1.0F, bool round = true)
      : shape(s),
        q(queries(s, query_scale, round)),
        keys(cached(s, 2)),
        values(cached(s, 3)),
        device_q(as<Value>(q)),
        device_keys(keys),
        device_values(values) {
    shape.scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
  }

  static std::vector<float> queries(const AttentionShape& s, float scale, bool round) {
    auto q = normal_floats(s.tokens * s.heads * s.head_dim, 1);
    for (float& value : q) value *= scale;
    return round ? floats(halves(q)) : q;
  }
  // Whatever follows the last position must not be read.
  static std::vector<__half> cached(const AttentionShape& s, std::uint32_t seed) {
    const std::size_t stride = s.kv_heads * s.head_dim;
    auto result = normal_floats((s.past + s.tokens) * stride, seed);
    result.resize(result.size() + 130 * stride, NAN);
    return halves(result);
  }

  [[nodiscard]] std::size_t row() const { return shape.heads * shape.head_dim; }
  [[nodiscard]] std::size_t stride() const { return shape.kv_heads * shape.head_dim; }
  [[nodiscard]] KvCacheView cache() const {
    return {WeightType::f16, reinterpret_cast<const std::byte*>(device_keys.data()),
            reinterpret_cast<const std::byte*>(device_values.data()), stride()};
  }

  // The prompt in ubatches of at most `ubatch` tokens.
  [[nodiscard]] std::vector<float> run(cudaStream_t stream, std::size_t ubatch) const {
    const DeviceArray<Value> out(q.size());
    AttentionShape longest = shape;
    longest.past += shape.tokens;
    longest.tokens = 1;
    const DeviceArray<std::byte> scratch(attention_scratch_bytes(longest, WeightType::f16));
    for (std::size_t first = 0; first < shape.tokens; first += ubatch) {
      AttentionShape part = shape;
      part.past = shape.past + first;
      part.tokens = std::min(ubatch, shape.tokens - first);
      attention(part, ConstView{device_q.data() + first * row(), part.tokens, row()}, cache(),
                View{out.data() + first * row(), part.tokens, row()},
                {scratch.data(), scratch.size()}, stream);
    }
    return as_floats(out.get());
  }

  [[nodiscard]] std::vector<float> on_cpu() const {
    std::vector<float> out(q.size());
    const auto k = floats(keys);
    const auto v = floats(values);
    cpu::attention(shape, {q.data(), shape.tokens, row()},
                   KvCacheView::of(k.data(), v.data(), stride()),
                   {out.data(), shape.tokens, row()});
    return out;
  }

  [[nodiscard]] std::string text() const {
    return std::to_string(shape.tokens) + " tokens after " + std::to_string(shape.past) + ", " +
           std::to_string(shape.heads) + "/" + std::to_string(shape.kv_heads) +
           " heads, head_dim " + std::to_string(shape.head_dim);
  }
};

template <class Types>
class CudaAttention : public CudaTest {
 protected:
  using P = Problem<Types>;
};

struct TypeNames {
  template <class Types>
  static std::string GetName(int /*index*/) {
    return std::is_same_v<Types, FloatValues> ? "Floats" : "Halves";
  }
};
using ValueTypes = testing::Types<FloatValues, HalfValues>;
TYPED_TEST_SUITE(CudaAttention, ValueTypes, TypeNames);

TYPED_TEST(CudaAttention, AgreesWithTheCpu) {
  const AttentionShape shapes[] = {
      {.tokens = 2, .heads = 1, .kv_heads = 1, .head_dim = 64},
      {.tokens = 2, .heads = 1, .kv_heads = 1, .head_dim = 128},
      {.tokens = 2, .heads = 1, .kv_heads = 1, .head_dim = 256},
      {.tokens = 16, .heads = 4, .kv_heads = 2, .head_dim = 64, .past = 1},
      {.tokens = 17, .heads = 7, .kv_heads = 1, .head_dim = 128, .past = 200},
      {.tokens = 64, .heads = 6, .kv_heads = 6, .head_dim = 64, .past = 63},
      {.tokens = 65, .heads = 5, .kv_heads = 1, .head_dim = 128, .past = 64},
      {.tokens = 127, .heads = 2, .kv_heads = 2, .head_dim = 64},
      {.tokens = 128, .heads = 10, .kv_heads = 2, .head_dim = 128},
      {.tokens = 129, .heads = 2, .kv_heads = 1, .head_dim = 128, .past = 47},
      {.tokens = 130, .heads = 2, .kv_heads = 1, .head_dim = 256, .past = 130},
      {.tokens = 300, .heads = 4, .kv_heads = 2, .head_dim = 128, .past = 3},
      {.tokens = 300, .heads = 14, .kv_heads = 2, .head_dim = 64, .past = 5},
      {.tokens = 300, .heads = 2, .kv_heads = 2, .head_dim = 256, .past = 31},
      {.tokens = 3, .heads = 8, .kv_heads = 1, .head_dim = 128, .past = 6000},
      {.tokens = 255, .heads = 7, .kv_heads = 1, .head_dim = 64, .past = 4097},
      {.tokens = 200, .heads = 8, .kv_heads = 1, .head_dim = 256, .past = 1983},
      {.tokens = 700, .heads = 40, .kv_heads = 8, .head_dim = 128, .past = 300},  // many tiles
  };
  for (const AttentionShape& shape : shapes) {
    const typename TestFixture::P p(shape);
    EXPECT_TRUE(
        close(p.run(this->stream, shape.tokens), p.on_cpu(), TypeParam::kTolerance, p.row()))
        << p.text();
  }
}

// On Hopper the two overloads are different kernels; here a multiprocessor does six tiles of
// queries one after the other.
TEST_F(CudaTest, AttentionOfHalvesAgreesWithThatOfFloats) {
  const AttentionShape shape{
      .tokens = 5000, .heads = 20, .kv_heads = 4, .head_dim = 128, .past = 77};
  const Problem<FloatValues> p(shape);
  const Problem<HalfValues> of_halves(shape);
  EXPECT_TRUE(close(of_halves.run(stream, shape.tokens), p.run(stream, shape.tokens),
                    HalfValues::kTolerance, p.row()))
      << p.text();
}

TYPED_TEST(CudaAttention, OneTokenAgreesWithTheCpu) {
  for (const std::size_t head_dim : {64U, 128U, 256U}) {
    for (const std::size_t past : {0U, 1U, 255U, 256U, 257U, 1000U, 5000U}) {
      for (const auto& [heads, kv_heads] :
           {std::pair<std::size_t, std::size_t>{1, 1}, {10, 2}, {9, 1}, {6, 6}}) {
        const typename TestFixture::P p({.tokens = 1,
                                         .heads = heads,
                                         .kv_heads = kv_heads,
                                         .head_dim = head_dim,
                                         .past = past});
        EXPECT_TRUE(
            close(p.run(this->stream, 1), p.on_cpu(), TypeParam::kOneTokenTolerance, p.row()))
            << p.text();
      }
    }
  }
}

class CudaAttentionOfOneToken : public CudaTest {};

// Small queries, and large ones, whose rounding to halves would change scores by hundredths.
TEST_F(CudaAttentionOfOneToken, RoundsNeitherQueriesNorWeights) {
  for (const std::size_t head_dim : {64U, 128U, 256U}) {
    for (const float scale : {0.01F, 1.0F, 20.0F}) {
      const Problem<FloatValues> p(
          {.tokens = 1, .heads = 10, .kv_heads = 2, .head_dim = head_dim, .past = 3000}, scale,
          false);
      // An error of a score is one of its weight, and scores, of which some are 4 * scale, are
      // float32. Queries rounded to halves would be off forty times as much.
      EXPECT_TRUE(close(p.run(stream, 1), p.on_cpu(),
                        FloatValues::kOneTokenTolerance * std::max(1.0F, 2 * scale), p.row()))
          << p.text() << ", queries of " << scale;
    }
  }
}

TEST_F(CudaAttentionOfOneToken, LeavesDigitsOfWhatItLeavesAsFloats) {
  for (const std::size_t head_dim : {64U, 128U, 256U}) {
    for (const std::size_t past : {0U, 700U, 20000U}) {
      const Problem<FloatValues> p(
          {.tokens = 1, .heads = 7, .kv_heads = 1, .head_dim = head_dim, .past = past});
      const std::size_t bytes = digits_stride(p.row()) * sizeof(float);
      const DeviceArray<float> floats(p.run(stream, 1));
      const DeviceArray<std::byte> expected(bytes);
      const DeviceArray<std::byte> got(bytes);
      split_digits({floats.data(), 1, p.row()}, {expected.data(), 1, p.row()}, stream);
      const DeviceArray<std::byte> scratch(attention_scratch_bytes(p.shape, WeightType::f16));
      attention(p.shape, ConstMatrixView{p.device_q.data(), 1, p.row()}, p.cache(),
                DigitsView{got.data(), 1, p.row()}, {scratch.data(), scratch.size()}, stream);
      EXPECT_EQ(got.get(), expected.get()) << p.text();
    }
  }
}

// Asks no GPU.
TEST(CudaAttentionScratch, NeverNeedsLessForMoreOfThePast) {
  AttentionShape shape{.tokens = 1, .heads = 40, .kv_heads = 8, .head_dim = 128};
  std::size_t before = 0;
  for (shape.past = 0; shape.past < 40000; shape.past += 31) {
    const std::size_t needed = attention_scratch_bytes(shape, WeightType::f16);
    ASSERT_GE(needed, before) << shape.past;
    before = needed;
  }
}

TYPED_TEST(CudaAttention, BitsDoNotDependOnHowThePromptIsCut) {
  for (const std::size_t head_dim : {64U, 128U, 256U}) {
    const typename TestFixture::P p(
        {.tokens = 390, .heads = 6, .kv_heads = 2, .head_dim = head_dim, .past = 11});
    const auto whole = p.run(this->stream, 390);
    for (const std::size_t ubatch : {2U, 3U, 6U, 37U, 64U, 100U, 128U, 129U, 256U, 387U}) {
      EXPECT_TRUE(equal_bits(p.run(this->stream, ubatch), whole, p.row()))
          << p.text() << ", " << ubatch << " tokens at a time";
    }
  }
}

TYPED_TEST(CudaAttention, BitsOfALongPromptDoNotDependOnHowItIsCut) {
  const typename TestFixture::P p(
      {.tokens = 3000, .heads = 14, .kv_heads = 2, .head_dim = 128, .past = 1333});
  const auto whole = p.run(this->stream, 3000);
  for (const std::size_t ubatch : {512U, 777U, 2048U}) {
    EXPECT_TRUE(equal_bits(p.run(this->stream, ubatch), whole, p.row()))
        << p.text() << ", " << ubatch << " tokens at a time";
  }
}

TYPED_TEST(CudaAttention, TwentyRunsGiveTheSameBits) {
  for (const std::size_t tokens : {1U, 1000U}) {
    const typename TestFixture::P p(
        {.tokens = tokens, .heads = 10, .kv_heads = 2, .head_dim = 128, .past = 3000});
    const auto first = p.run(this->stream, tokens);
    for (int run = 1; run < 20; ++run) {
      ASSERT_TRUE(equal_bits(p.run(this->stream, tokens), first, p.row()))
          << p.text() << ", run " << run;
    }
  }
}

// The softmax is then nearly one-hot; scores are of the order of 10^4.
TYPED_TEST(CudaAttention, LargeScoresDoNotOverflow) {
  for (const std::size_t tokens : {1U, 70U}) {
    const typename TestFixture::P p(
        {.tokens = tokens, .heads = 2, .kv_heads = 1, .head_dim = 64, .past = 100}, 1000.0F);
    // Scores are exact to about 1e-3, and so are the weights of keys that nearly tie.
    EXPECT_TRUE(close(p.run(this->stream, tokens), p.on_cpu(), 2e-2, p.row())) << p.text();
  }
}

TYPED_TEST(CudaAttention, CacheOfFloatsGivesTheBitsOfItsHalves) {
  for (const std::size_t tokens : {1U, 40U}) {
    const typename TestFixture::P p(
        {.tokens = tokens, .heads = 4, .kv_heads = 2, .head_dim = 64, .past = 300});
    const DeviceArray<float> keys(floats(p.keys));
    const DeviceArray<float> values(floats(p.values));
    const DeviceArray<typename TypeParam::Value> out(p.q.size());
    const DeviceArray<std::byte> scratch(attention_scratch_bytes(p.shape, WeightType::f32));
    attention(p.shape, typename TypeParam::ConstView{p.device_q.data(), tokens, p.row()},
              KvCacheView::of(keys.data(), values.data(), p.stride()),
              typename TypeParam::View{out.data(), tokens, p.row()},
              {scratch.data(), scratch.size()}, this->stream);
    EXPECT_TRUE(equal_bits(as_floats(out.get()), p.run(this->stream, tokens), p.row())) << p.text();
  }
}

TYPED_TEST(CudaAttention, HonoursStrides) {
  for (const std::size_t tokens : {1U, 33U}) {
    const typename TestFixture::P p(
        {.tokens = tokens, .heads = 2, .kv_heads = 1, .head_dim = 64, .past = 20});
    using Value = typename TypeParam::Value;
    const std::size_t stride = p.row() + 24;
    std::vector<float> wide(tokens * stride, NAN);
    for (std::size_t i = 0; i < p.q.size(); ++i) wide[i / p.row() * stride + i % p.row()] = p.q[i];
    const DeviceArray<Value> q(as<Value>(wide));
    const DeviceArray<Value> out(as<Value>(std::vector<float>(tokens * stride, 5.0F)));
    const DeviceArray<std::byte> scratch(attention_scratch_bytes(p.shape, WeightType::f16));
    attention(p.shape, typename TypeParam::ConstView{q.data(), tokens, p.row(), stride}, p.cache(),
              typename TypeParam::View{out.data(), tokens, p.row(), stride},
              {scratch.data(), scratch.size()}, this->stream);
    const auto dense = p.run(this->stream, tokens);
    std::vector<float> expected(tokens * stride, 5.0F);
    for (std::size_t i = 0; i < dense.size(); ++i) {
      expected[i / p.row() * stride + i % p.row()] = dense[i];
    }
    EXPECT_TRUE(equal_bits(as_floats(out.get()), expected, stride)) << p.text();
  }
}

TYPED_TEST(CudaAttention, RefusesWhatItCannotDo) {
  const typename TestFixture::P p({.tokens = 2, .heads = 4, .kv_heads = 2, .head_dim = 64});
  using ConstView = typename TypeParam::ConstView;
  using View = typename TypeParam::View;
  const DeviceArray<typename TypeParam::Value> out(p.q.size() + 64);
  const View rows{out.data(), 2, p.row()};
  const auto run_with = [&](const AttentionShape& shape, const KvCacheView& cache,
                            const View& result) {
    attention(shape, ConstView{p.device_q.data(), 2, p.row()}, cache, result, {}, this->stream);
  };
  const auto run = [&](const AttentionShape& shape, const KvCacheView& cache) {
    run_with(shape, cache, rows);
  };
  run(p.shape, p.cache());
  AttentionShape shape = p.shape;
  shape.kv_heads = 3;
  EXPECT_THROW(run(shape, p.cache()), Error);
  shape = p.shape;
  shape.head_dim = 80;
  EXPECT_THROW(run(shape, p.cache()), Error);
  shape = p.shape;
  shape.kv_heads = 4;
  EXPECT_THROW(run(shape, p.cache()), Error) << "the cache's positions are too close";
  KvCacheView cache = p.cache();
  cache.type = WeightType::bf16;
  EXPECT_THROW(run(p.shape, cache), Error);
  cache = p.cache();
  cache.type = WeightType::f32;
  EXPECT_THROW(run(p.shape, cache), Error) << "there is no scratch to convert it to";
  EXPECT_THROW(run_with(p.shape, p.cache(), View{out.data(), 3, p.row()}), Error);
  EXPECT_THROW(run_with(p.shape, p.cache(), View{out.data(), 2, p.row(), p.row() + 1}), Error);
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda
