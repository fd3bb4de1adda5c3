// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/matrix_view.hpp"
#include "kernels/weight_type.hpp"

namespace tensor_pager::kernels {

inline std::vector<float> normal_floats(std::size_t count, std::uint32_t seed) {
  std::vector<float> values(count);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(random);
  return values;
}

/// Blocks of rows * cols finite weights below 2 in scale: with bit 6 of every byte clear, no half,
/// bfloat, float or E4M3 in them has the large exponents; the E8M0 of MXFP4 are made 2^-16 to 2^-1.
inline std::vector<std::byte> finite_blocks(WeightType type, std::size_t rows, std::size_t cols,
                                            std::uint32_t seed) {
  std::vector<std::byte> bytes(rows * row_bytes(type, cols));
  std::mt19937 random(seed);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() & 0xBFU);
  if (type == WeightType::mxfp4) {
    for (std::size_t i = 0; i < bytes.size(); i += block_bytes(type)) {
      bytes[i] = (bytes[i] & std::byte{0x0F}) | std::byte{0x70};
    }
  }
  return bytes;
}

inline ConstMatrixView view(const std::vector<float>& values, std::size_t rows, std::size_t cols) {
  return {values.data(), rows, cols};
}

inline MatrixView view(std::vector<float>& values, std::size_t rows, std::size_t cols) {
  return {values.data(), rows, cols};
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace tensor_pager::kernels
