// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/weight_type.hpp"

namespace tensor_pager::kernels {

/// Blocks and what the gguf package makes of them.
struct DequantizeVectors {
  WeightType type;
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

// The layout is described in tests/data/kernels/make_dequantize_vectors.py.
class VectorFile {
 public:
  explicit VectorFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot open " + path);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
  }

  std::vector<DequantizeVectors> read() {
    if (take(8) != "TPDQVEC1") throw std::runtime_error("not a vector file");
    std::vector<DequantizeVectors> all(word());
    for (DequantizeVectors& vectors : all) {
      vectors.type = weight_type(word()).value();
      vectors.values.resize(word());
      vectors.blocks.resize(word());
      const std::string blocks = take(vectors.blocks.size());
      std::memcpy(vectors.blocks.data(), blocks.data(), blocks.size());
      const std::string values = take(vectors.values.size() * sizeof(float));
      std::memcpy(vectors.values.data(), values.data(), values.size());
    }
    return all;
  }

 private:
  std::string take(std::size_t count) {
    if (count > bytes_.size() - at_) throw std::runtime_error("vector file is truncated");
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }
  std::uint32_t word() {
    std::uint32_t value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string bytes_;
  std::size_t at_ = 0;
};

inline std::vector<DequantizeVectors> read_dequantize_vectors() {
  // Tests that run on another machine than they were built on are told where the data is.
  const char* const moved = std::getenv("TENSOR_PAGER_TEST_DATA");
  return VectorFile(std::string(moved != nullptr ? moved : TEST_DATA_DIR) +
                    "/kernels/dequantize_vectors.bin")
      .read();
}

}  // namespace tensor_pager::kernels
