// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "loaders/tensor_type.hpp"

namespace tensor_pager::make_gguf {

/// A stream of pseudo-random numbers (splitmix64), the same on every machine.
class RandomStream {
 public:
  explicit RandomStream(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next();
  /// Uniform in [0, 1).
  double uniform();
  /// Standard normal (Box and Muller).
  float normal();

 private:
  std::uint64_t state_;
};

/// True for the types that random_blocks() can make.
bool can_make(loaders::TensorType type);

/// `count` valid blocks of a type whose decoded values have about that standard deviation and mean
/// 0: random quants under scales that differ from block to block. One value is one block of an
/// unquantised type.
std::vector<std::byte> random_blocks(RandomStream& random, loaders::TensorType type,
                                     std::uint64_t count, float deviation);

/// `count` values of type F32, normally distributed.
std::vector<std::byte> random_vector(RandomStream& random, std::uint64_t count, float mean,
                                     float deviation);

}  // namespace tensor_pager::make_gguf
