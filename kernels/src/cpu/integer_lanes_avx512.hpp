// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "cpu/lanes_avx512.hpp"

// What integer_kernels.hpp needs beside lanes_avx512.hpp, with VNNI where it is compiled for it.

namespace tensor_pager::kernels::cpu {
namespace {

using IntVec = __m512i;

inline constexpr std::size_t kPanelRows = 32;
inline constexpr std::size_t kPanelTokens = 6;  // of the register tile

inline IntVec load_integers(const std::byte* p) {
  return _mm512_load_si512(p);
}
inline IntVec broadcast_integer(std::int32_t i) {
  return _mm512_set1_epi32(i);
}
inline Vec to_floats(IntVec v) {
  return _mm512_cvtepi32_ps(v);
}

// Products of pairs of 16-bit integers, each pair added up; added to `sums`.
inline __m256i dot_pairs(__m256i a, __m256i b) {
  return _mm256_madd_epi16(a, b);
}
#ifdef __AVX512VNNI__
inline __m256i dot_pairs(__m256i sums, __m256i a, __m256i b) {
  return _mm256_dpwssd_epi32(sums, a, b);
}
inline __m512i dot_pairs(__m512i sums, __m512i a, __m512i b) {
  return _mm512_dpwssd_epi32(sums, a, b);
}
#else
inline __m256i dot_pairs(__m256i sums, __m256i a, __m256i b) {
  sums = _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));
  asm("" : "+v"(sums));  // as for AVX2
  return sums;
}
inline __m512i dot_pairs(__m512i sums, __m512i a, __m512i b) {
  sums = _mm512_add_epi32(sums, _mm512_madd_epi16(a, b));
  asm("" : "+v"(sums));  // as for AVX2
  return sums;
}
#endif

}  // namespace
}  // namespace tensor_pager::kernels::cpu
