// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "cuda_test_device.hpp"
#include "dequantize_vectors.hpp"
#include "kernels/cuda/dequantize.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

class CudaDequantize : public CudaTest {};

std::vector<float> on_cpu(WeightType type, const std::vector<std::byte>& blocks,
                          std::size_t elements) {
  std::vector<float> values(elements);
  cpu::dequantize(type, blocks.data(), values.data(), elements);
  return values;
}

TEST_F(CudaDequantize, FloatsHaveTheBitsOfTheCpu) {
  for (const WeightType type : all_weight_types()) {
    const std::size_t elements = 256 * 257;  // not a multiple of what a block of threads does
    const auto blocks = finite_blocks(type, 1, elements, 21);
    const DeviceArray<std::byte> device(blocks);
    const DeviceArray<float> out(elements);
    dequantize(type, device.data(), out.data(), elements, stream);
    EXPECT_TRUE(equal_bits(out.get(), on_cpu(type, blocks, elements), block_elements(type)))
        << name(type) << " (row = block)";
  }
}

TEST_F(CudaDequantize, FloatsHaveTheBitsOfTheGgufPackage) {
  for (const DequantizeVectors& vectors : read_dequantize_vectors()) {
    const DeviceArray<std::byte> device(vectors.blocks);
    const DeviceArray<float> out(vectors.values.size());
    dequantize(vectors.type, device.data(), out.data(), out.size(), stream);
    EXPECT_TRUE(equal_bits(out.get(), vectors.values, block_elements(vectors.type)))
        << name(vectors.type) << " (row = block)";
  }
}

TEST_F(CudaDequantize, BlocksOfMxfp4MayBeginAtAnyAddress) {
  const std::size_t elements = 512 * 5;
  const auto blocks = finite_blocks(WeightType::mxfp4, 1, elements, 26);
  for (const std::size_t shift : {1U, 3U}) {
    std::vector<std::byte> shifted(shift);
    shifted.insert(shifted.end(), blocks.begin(), blocks.end());
    const DeviceArray<std::byte> device(shifted);
    const DeviceArray<float> out(elements);
    dequantize(WeightType::mxfp4, device.data() + shift, out.data(), elements, stream);
    EXPECT_TRUE(equal_bits(out.get(), on_cpu(WeightType::mxfp4, blocks, elements), 32)) << shift;
  }
}

TEST_F(CudaDequantize, BlocksMayBeginAtAnyEvenAddress) {
  for (const WeightType type : all_weight_types()) {
    if (type == WeightType::f32) continue;
    const std::size_t elements = 512 * 5;
    const auto blocks = finite_blocks(type, 1, elements, 22);
    for (const std::size_t shift : {2U, 4U, 6U, 8U, 10U}) {
      std::vector<std::byte> shifted(shift);
      shifted.insert(shifted.end(), blocks.begin(), blocks.end());
      const DeviceArray<std::byte> device(shifted);
      const DeviceArray<float> out(elements);
      dequantize(type, device.data() + shift, out.data(), elements, stream);
      EXPECT_TRUE(equal_bits(out.get(), on_cpu(type, blocks, elements), block_elements(type)))
          << name(type) << " at an address of 256 n + " << shift;
    }
  }
}

TEST_F(CudaDequantize, HalvesAreTheFloatsRoundedToNearestEven) {
  for (const WeightType type : all_weight_types()) {
    const std::size_t elements = 256 * 33;
    const auto blocks = finite_blocks(type, 1, elements, 23);
    const DeviceArray<std::byte> device(blocks);
    const DeviceArray<__half> out(elements);
    dequantize(type, device.data(), out.data(), elements, stream);
    const auto halves = out.get();
    std::vector<float> got(elements);
    std::vector<float> expected = on_cpu(type, blocks, elements);
    for (std::size_t i = 0; i < elements; ++i) {
      got[i] = __half2float(halves[i]);
      expected[i] = __half2float(__float2half_rn(expected[i]));
    }
    EXPECT_TRUE(equal_bits(got, expected, block_elements(type))) << name(type);
  }
}

TEST_F(CudaDequantize, LeavesWhatFollowsAlone) {
  for (const WeightType type : all_weight_types()) {
    const std::size_t block = block_elements(type);
    for (std::size_t count = 1; count < (block == 1 ? 11U : 4U); ++count) {
      const std::size_t elements = count * block;
      const auto blocks = finite_blocks(type, 1, elements, 24);
      const DeviceArray<std::byte> device(blocks);
      const DeviceArray<float> out(std::vector<float>(elements + 8, 123.0F));
      dequantize(type, device.data(), out.data(), elements, stream);
      auto expected = on_cpu(type, blocks, elements);
      expected.resize(elements + 8, 123.0F);
      EXPECT_TRUE(equal_bits(out.get(), expected, block)) << name(type) << " " << elements;
    }
  }
}

TEST_F(CudaDequantize, RowsAreFollowedByZeros) {
  for (const WeightType type : {WeightType::f32, WeightType::f16, WeightType::bf16}) {
    for (const std::size_t cols : {1U, 7U, 8U, 13U, 64U}) {
      const std::size_t rows = 37;
      const std::size_t stride = (cols + 7) / 8 * 8;
      const auto blocks = finite_blocks(type, rows, cols, 25);
      const DeviceArray<std::byte> device(blocks);
      const DeviceArray<Operand> out(rows * stride);
      dequantize_rows({type, device.data(), rows, cols}, out.data(), stride, stream);
      const auto halves = out.get();
      const auto values = on_cpu(type, blocks, rows * cols);
      std::vector<float> got(rows * stride);
      std::vector<float> expected(rows * stride);
      for (std::size_t i = 0; i < got.size(); ++i) {
        const std::size_t col = i % stride;
        got[i] = static_cast<float>(halves[i]);
        if (col < cols) {
          expected[i] = static_cast<float>(static_cast<Operand>(values[i / stride * cols + col]));
        }
      }
      EXPECT_TRUE(equal_bits(got, expected, stride)) << name(type) << " cols " << cols;
    }
  }
}

TEST_F(CudaDequantize, RefusesPartBlocksAndOddAddresses) {
  const DeviceArray<std::byte> device(std::vector<std::byte>(420));
  const DeviceArray<float> out(256);
  EXPECT_THROW(dequantize(WeightType::q6_k, device.data(), out.data(), 32, stream), Error);
  EXPECT_THROW(dequantize(WeightType::q6_k, device.data() + 1, out.data(), 256, stream), Error);
  EXPECT_THROW(dequantize(WeightType::q6_k, device.data(), out.data() + 1, 256, stream), Error);
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda
