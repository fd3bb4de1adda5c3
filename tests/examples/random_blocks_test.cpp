// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/dequantize.hpp"
#include "kernels/weight_type.hpp"
#include "random_weights.hpp"

namespace tensor_pager::make_gguf {
namespace {

// What a type's random quants decode to is known to random_weights.cpp as one number, which a wrong
// place of a scale or a wrong form would miss by far. The powers of two of MXFP4 are within 1.4.
TEST(RandomBlocks, HaveTheDeviationAskedForInEveryTypeThatKernelsRead) {
  constexpr float kDeviation = 0.7F;
  for (const kernels::WeightType type : kernels::all_weight_types()) {
    const auto tensor_type = static_cast<loaders::TensorType>(type);
    ASSERT_TRUE(can_make(tensor_type)) << kernels::name(type);
    RandomStream random(5);
    const std::size_t count = 64 * 1024 / kernels::block_elements(type);
    const auto blocks = random_blocks(random, tensor_type, count, kDeviation);
    std::vector<float> values(count * kernels::block_elements(type));
    kernels::cpu::dequantize(type, blocks.data(), values.data(), values.size());
    double sum = 0;
    double squares = 0;
    for (const float value : values) {
      sum += static_cast<double>(value);
      squares += static_cast<double>(value) * static_cast<double>(value);
    }
    const auto n = static_cast<double>(values.size());
    const double deviation = std::sqrt(squares / n) / static_cast<double>(kDeviation);
    EXPECT_GT(deviation, type == kernels::WeightType::mxfp4 ? 0.7 : 0.9) << kernels::name(type);
    EXPECT_LT(deviation, type == kernels::WeightType::mxfp4 ? 1.4 : 1.1) << kernels::name(type);
    EXPECT_NEAR(sum / n, 0, 0.1) << kernels::name(type);
  }
}

}  // namespace
}  // namespace tensor_pager::make_gguf
