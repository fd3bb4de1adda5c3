// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <random>

namespace tensor_pager::testing {

/// Draws that a seed determines.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  /// Uniform in [low, high].
  std::uint32_t in(std::uint32_t low, std::uint32_t high) {
    return low + static_cast<std::uint32_t>(engine_() % (std::uint64_t{high} - low + 1));
  }
  bool chance(std::uint32_t percent) { return in(0, 99) < percent; }
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return *(values.begin() + in(0, static_cast<std::uint32_t>(values.size()) - 1));
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace tensor_pager::testing
