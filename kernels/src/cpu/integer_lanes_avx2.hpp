// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "cpu/lanes_avx2.hpp"

// What integer_kernels.hpp needs beside lanes_avx2.hpp.

namespace tensor_pager::kernels::cpu {
namespace {

using IntVec = __m256i;

inline constexpr std::size_t kPanelRows = 16;
inline constexpr std::size_t kPanelTokens = 4;  // of the register tile

inline IntVec load_integers(const std::byte* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}
inline IntVec broadcast_integer(std::int32_t i) {
  return _mm256_set1_epi32(i);
}
inline Vec to_floats(IntVec v) {
  return _mm256_cvtepi32_ps(v);
}

// Products of pairs of 16-bit integers, each pair added up; added to `sums`.
inline __m256i dot_pairs(__m256i a, __m256i b) {
  return _mm256_madd_epi16(a, b);
}
inline __m256i dot_pairs(__m256i sums, __m256i a, __m256i b) {
  sums = _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));
  asm("" : "+x"(sums));  // GCC would rather have all products first, in memory, and then add them
  return sums;
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
