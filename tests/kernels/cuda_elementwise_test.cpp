// SPDX-License-Identifier: Apache-2.0
#include "cuda_test_device.hpp"
#include "kernels/activation.hpp"
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/kv_cache.hpp"
#include "kernels/cuda/norm.hpp"
#include "kernels/cuda/rope.hpp"
#include "kernels/error.hpp"
#include "kernels/norm.hpp"
#include "kernels/rope.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

class CudaNorm : public CudaTest {};
class CudaRope : public CudaTest {};
class CudaActivation : public CudaTest {};
class CudaKvCache : public CudaTest {};

std::string shape(std::size_t rows, std::size_t cols, std::size_t stride) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "] with stride " +
         std::to_string(stride);
}

// Tolerance: the float32 sum of n squares is within a few 1e-7 of exact, and three products follow.
TEST_F(CudaNorm, AgreesWithTheCpu) {
  for (const std::size_t cols : {1U, 3U, 64U, 128U, 257U, 512U, 896U, 5120U, 5121U, 17000U}) {
    for (const std::size_t rows : {1U, 3U, 130U}) {
      for (const std::size_t gap : {0U, 4U}) {
        const std::size_t stride = cols + gap;
        const auto x = normal_floats(rows * stride, 1);
        const auto weight = normal_floats(cols, 2);
        std::vector<float> expected(rows * stride, 7.0F);
        cpu::rms_norm({x.data(), rows, cols, stride}, weight.data(), 1e-6F,
                      {expected.data(), rows, cols, stride});
        const DeviceArray<float> device_x(x);
        const DeviceArray<float> device_weight(weight);
        const DeviceArray<float> out(std::vector<float>(rows * stride, 7.0F));
        rms_norm({device_x.data(), rows, cols, stride}, device_weight.data(), 1e-6F,
                 {out.data(), rows, cols, stride}, stream);
        std::vector<double> scale(expected.size());
        for (std::size_t i = 0; i < scale.size(); ++i) {
          scale[i] = std::abs(static_cast<double>(expected[i])) + 1e-20;
        }
        EXPECT_TRUE(close(out.get(), expected, 1e-6, stride, scale)) << shape(rows, cols, stride);
        rms_norm({device_x.data(), rows, cols, stride}, device_weight.data(), 1e-6F,
                 {device_x.data(), rows, cols, stride}, stream);
        auto in_place = device_x.get();
        for (std::size_t i = 0; i < in_place.size(); ++i) {
          if (i % stride >= cols) in_place[i] = 7.0F;
        }
        EXPECT_TRUE(equal_bits(in_place, out.get(), stride))
            << "in place, " << shape(rows, cols, stride);
      }
    }
  }
}

// Rows of a warp, of a block, and of a block that takes fours; the least stage stays.
TEST_F(CudaNorm, NotesTheFirstStageThatIsNotNumbers) {
  for (const std::size_t cols : {3U, 128U, 512U, 5120U, 5121U, 17000U}) {
    const std::size_t rows = 130;
    auto values = normal_floats(rows * cols, 1);
    const DeviceArray<float> good(values);
    values[77 * cols + cols - 1] = std::nanf("");
    values[100 * cols] = HUGE_VALF;
    const DeviceArray<float> bad(values);
    const DeviceArray<float> weight(normal_floats(cols, 2));
    const DeviceArray<float> out(rows * cols);
    const DeviceArray<unsigned> first(std::vector<unsigned>{~0U});
    const auto norm = [&](const DeviceArray<float>& x, unsigned stage) {
      rms_norm({x.data(), rows, cols}, weight.data(), 1e-6F, {out.data(), rows, cols}, stream,
               {first.data(), stage});
      return first.get().front();
    };
    EXPECT_EQ(norm(good, 1), ~0U) << cols;
    EXPECT_EQ(norm(bad, 5), 5U) << cols;
    EXPECT_EQ(norm(bad, 7), 5U) << cols;
    EXPECT_EQ(norm(bad, 0), 0U) << cols;
    EXPECT_EQ(norm(good, 0), 0U) << cols;
  }
}

TEST_F(CudaRope, HasTheBitsOfTheCpu) {
  struct Case {
    std::size_t tokens, heads, head_dim, pairs, gap, first;
  };
  const Case cases[] = {{1, 1, 64, 32, 0, 0},    {1, 40, 128, 64, 0, 8191}, {300, 8, 128, 64, 0, 5},
                        {17, 7, 64, 16, 5, 100}, {5, 2, 256, 128, 8, 3},    {33, 3, 24, 12, 1, 9}};
  for (const Case& c : cases) {
    const RopeFrequencies frequencies =
        rope_frequencies({.rotary_dims = 2 * c.pairs, .frequency_base = 1e6});
    const RopeTable table(frequencies, c.first - std::min<std::size_t>(c.first, 3), c.tokens + 3);
    const std::size_t cols = c.heads * c.head_dim;
    const std::size_t stride = cols + c.gap;
    auto x = normal_floats(c.tokens * stride, 3);
    const DeviceArray<float> device(x);
    const DeviceArray<float> values(std::vector<float>(
        table.at(table.first_position()),
        table.at(table.first_position()) + table.positions() * 2 * table.pairs()));
    cpu::rope({x.data(), c.tokens, cols, stride}, c.heads, c.first, table);
    rope({device.data(), c.tokens, cols, stride}, c.heads, c.first,
         {values.data(), table.first_position(), table.positions(), table.pairs()}, stream);
    EXPECT_TRUE(equal_bits(device.get(), x, stride))
        << shape(c.tokens, cols, stride) << ", heads " << c.heads << ", pairs " << c.pairs;
  }
}

// The same values, rounded: in rows of their own, and at the beginning of the rows they were in.
TEST_F(CudaRope, HalvesAreTheFloatsRounded) {
  struct Case {
    std::size_t tokens, heads, head_dim, pairs;
  };
  const Case cases[] = {{35, 5, 128, 32}, {35, 5, 128, 64}, {3, 40, 128, 64},
                        {1, 1, 64, 32},   {9, 3, 256, 64},  {2, 256, 128, 64}};
  for (const auto& [tokens, heads, head_dim, pairs] : cases) {
    const std::size_t cols = heads * head_dim;
    RopeParameters parameters;
    parameters.rotary_dims = 2 * pairs;
    const RopeTable table(rope_frequencies(parameters), 7, tokens);
    const DeviceArray<float> device_table(
        std::vector<float>(table.at(7), table.at(7) + tokens * 2 * pairs));
    const RopeTableView view{device_table.data(), 7, tokens, pairs};
    const auto x = normal_floats(tokens * cols, 3);
    const DeviceArray<float> floats(x);
    const DeviceArray<float> within(x);
    const DeviceArray<float> untouched(x);
    const std::size_t stride = cols + 8;
    const DeviceArray<__half> apart(std::vector<__half>(tokens * stride, __float2half(5.0F)));
    rope({floats.data(), tokens, cols}, heads, 7, view, stream);
    rope_to_half({within.data(), tokens, cols}, heads, 7, view,
                 {reinterpret_cast<__half*>(within.data()), tokens, cols, 2 * cols}, stream);
    rope_to_half({untouched.data(), tokens, cols}, heads, 7, view,
                 {apart.data(), tokens, cols, stride}, stream);
    std::vector<float> expected(tokens * stride, 5.0F);
    std::vector<float> got_within(tokens * stride, 5.0F);
    std::vector<float> got_apart(tokens * stride);
    const auto rotated = floats.get();
    const auto words = within.get();
    const auto halves = apart.get();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      got_apart[i] = __half2float(halves[i]);
      const std::size_t row = i / stride;
      const std::size_t col = i % stride;
      if (col >= cols) continue;
      expected[i] = __half2float(__float2half_rn(rotated[row * cols + col]));
      __half half;
      std::memcpy(&half, reinterpret_cast<const std::byte*>(&words[row * cols]) + 2 * col,
                  sizeof half);
      got_within[i] = __half2float(half);
    }
    EXPECT_TRUE(equal_bits(got_apart, expected, stride)) << shape(tokens, cols, stride);
    EXPECT_TRUE(equal_bits(got_within, expected, stride)) << shape(tokens, cols, 2 * cols);
    EXPECT_TRUE(equal_bits(untouched.get(), x, cols)) << shape(tokens, cols, cols);
  }
}

TEST_F(CudaRope, RefusesPositionsOutsideTheTable) {
  const DeviceArray<float> x(256);
  const DeviceArray<float> values(64 * 4);
  const RopeTableView table{values.data(), 10, 4, 32};
  EXPECT_THROW(rope({x.data(), 4, 64}, 1, 9, table, stream), Error);
  EXPECT_THROW(rope({x.data(), 4, 64}, 1, 11, table, stream), Error);
  EXPECT_THROW(rope({x.data(), 4, 64}, 2, 10, table, stream), Error);
}

// Tolerance: both exponentials are within 2 units in the last place, then three roundings.
TEST_F(CudaActivation, SwigluAgreesWithTheCpu) {
  for (const std::size_t cols : {1U, 6U, 1024U, 1027U, 27648U}) {
    for (const std::size_t rows : {1U, 5U}) {
      for (const std::size_t gap : {0U, 12U}) {
        const std::size_t stride = cols + gap;
        auto gate = normal_floats(rows * stride, 4);
        for (std::size_t i = 0; i < gate.size(); ++i) {
          gate[i] *= static_cast<float>(i % 7) * 4.0F;
        }
        gate[0] = -200.0F;
        const auto up = normal_floats(rows * stride, 5);
        auto expected = gate;
        cpu::swiglu({gate.data(), rows, cols, stride}, {up.data(), rows, cols, stride},
                    {expected.data(), rows, cols, stride});
        const DeviceArray<float> device_gate(gate);
        const DeviceArray<float> device_up(up);
        const MatrixView g{device_gate.data(), rows, cols, stride};
        swiglu(g, {device_up.data(), rows, cols, stride}, g, stream);
        std::vector<double> scale(expected.size());
        for (std::size_t i = 0; i < scale.size(); ++i) {
          scale[i] = std::abs(static_cast<double>(expected[i])) + 1e-20;
        }
        EXPECT_TRUE(close(device_gate.get(), expected, 1e-6, stride, scale))
            << shape(rows, cols, stride);
      }
    }
  }
}

TEST_F(CudaActivation, AddHasTheBitsOfTheCpu) {
  for (const std::size_t cols : {5U, 64U}) {
    const std::size_t rows = 70;
    const auto a = normal_floats(rows * cols, 6);
    const auto b = normal_floats(rows * cols, 7);
    std::vector<float> expected(a.size());
    cpu::add(view(a, rows, cols), view(b, rows, cols), view(expected, rows, cols));
    const DeviceArray<float> device_a(a);
    const DeviceArray<float> device_b(b);
    const MatrixView out{device_a.data(), rows, cols};
    add(out, {device_b.data(), rows, cols}, out, stream);
    EXPECT_TRUE(equal_bits(device_a.get(), expected, cols)) << shape(rows, cols, cols);
    EXPECT_THROW(add(out, {device_b.data(), rows - 1, cols}, out, stream), Error);
  }
}

TEST_F(CudaKvCache, StoresRowsAsHalves) {
  for (const std::size_t cols : {1U, 64U, 1024U, 1025U}) {
    const std::size_t rows = 19;
    const std::size_t stride = cols + 8;
    const auto x = normal_floats(rows * cols, 8);
    const DeviceArray<float> device(x);
    const DeviceArray<__half> out(std::vector<__half>(rows * stride, __float2half(5.0F)));
    store_as_half({device.data(), rows, cols}, out.data(), stride, stream);
    const auto halves = out.get();
    std::vector<float> got(halves.size());
    std::vector<float> expected(halves.size(), 5.0F);
    for (std::size_t i = 0; i < got.size(); ++i) {
      got[i] = __half2float(halves[i]);
      const std::size_t col = i % stride;
      if (col < cols) expected[i] = __half2float(__float2half_rn(x[i / stride * cols + col]));
    }
    EXPECT_TRUE(equal_bits(got, expected, stride)) << shape(rows, cols, stride);
  }
}

// A token's queries, keys and values in one launch: the bits of one after the other.
TEST_F(CudaKvCache, FewTokensAreRotatedAndStoredTogether) {
  struct Case {
    std::size_t tokens, heads, kv_heads, head_dim, pairs;
  };
  const Case cases[] = {
      {1, 40, 8, 128, 64}, {8, 5, 1, 64, 32}, {3, 2, 2, 256, 64}, {5, 3, 1, 128, 16}};
  for (const auto& [tokens, heads, kv_heads, head_dim, pairs] : cases) {
    const std::size_t cols = heads * head_dim;
    const std::size_t kv_cols = kv_heads * head_dim;
    const RopeTable table(rope_frequencies({.rotary_dims = 2 * pairs, .frequency_base = 1e6}), 7,
                          tokens);
    const DeviceArray<float> device_table(
        std::vector<float>(table.at(7), table.at(7) + tokens * 2 * pairs));
    const RopeTableView view{device_table.data(), 7, tokens, pairs};
    const auto x = normal_floats(tokens * cols, 3);
    const DeviceArray<float> queries(x);
    const DeviceArray<float> apart(x);
    const DeviceArray<float> keys(normal_floats(tokens * kv_cols, 4));
    const DeviceArray<float> values(normal_floats(tokens * kv_cols, 5));
    const std::vector<__half> untouched(2 * tokens * kv_cols, __float2half(5.0F));
    const DeviceArray<__half> together(untouched);
    const DeviceArray<__half> after_another(untouched);
    const ConstMatrixView k{keys.data(), tokens, kv_cols};
    const ConstMatrixView v{values.data(), tokens, kv_cols};
    std::vector<CacheRow> rows;
    for (std::size_t t = 0; t < tokens; ++t) {
      __half* const row = together.data() + t * kv_cols;
      rows.push_back({row, row + tokens * kv_cols});
    }
    rotate_and_store({queries.data(), tokens, cols}, heads, k, v, kv_heads, 7, view, rows, stream);
    rope({apart.data(), tokens, cols}, heads, 7, view, stream);
    store_keys_and_values(k, v, kv_heads, 7, view, {after_another.data(), tokens, kv_cols, kv_cols},
                          {after_another.data() + tokens * kv_cols, tokens, kv_cols, kv_cols},
                          stream);
    EXPECT_TRUE(equal_bits(queries.get(), apart.get(), cols)) << shape(tokens, cols, cols);
    const auto got = together.get();
    const auto expected = after_another.get();
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(__half2float(got[i]), __half2float(expected[i])) << i << " of " << kv_cols;
    }
    rows.pop_back();
    EXPECT_THROW(rotate_and_store({queries.data(), tokens, cols}, heads, k, v, kv_heads, 7, view,
                                  rows, stream),
                 Error);
  }
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda
