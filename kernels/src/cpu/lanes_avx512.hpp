// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/codes_sse.hpp"
#include "cpu/squares_avx.hpp"

// AVX-512 F, BW, VL and DQ. Same names as lanes_portable.hpp, which explains them.

namespace tensor_pager::kernels::cpu {
namespace {

using Vec = __m512;

inline constexpr std::size_t kLanes = 16;
inline constexpr std::size_t kTokenTile = 6;
inline constexpr std::size_t kOuterVectors = 4;

inline Vec load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline void store(float* p, Vec v) {
  _mm512_storeu_ps(p, v);
}
inline Vec broadcast(float f) {
  return _mm512_set1_ps(f);
}
inline Vec add(Vec a, Vec b) {
  return _mm512_add_ps(a, b);
}
inline Vec sub(Vec a, Vec b) {
  return _mm512_sub_ps(a, b);
}
inline Vec mul(Vec a, Vec b) {
  return _mm512_mul_ps(a, b);
}
inline Vec div(Vec a, Vec b) {
  return _mm512_div_ps(a, b);
}
inline Vec multiply_add(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline Vec min(Vec a, Vec b) {
  return _mm512_min_ps(a, b);
}
inline Vec max(Vec a, Vec b) {
  return _mm512_max_ps(a, b);
}
inline Vec zero_where_less(Vec v, Vec a, Vec b) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), v);
}
inline Vec round_to_integer(Vec v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec times_power_of_two(Vec v, Vec integer) {
  return _mm512_scalef_ps(v, integer);
}

inline __m256 fold(Vec v) {
  return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}
inline void add_sums(float* out, Vec a, Vec b, Vec c, Vec d) {
  const __m256 quarters =
      _mm256_hadd_ps(_mm256_hadd_ps(fold(a), fold(b)), _mm256_hadd_ps(fold(c), fold(d)));
  const __m128 sums =
      _mm_add_ps(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps(quarters, 1));
  _mm_storeu_ps(out, _mm_add_ps(_mm_loadu_ps(out), sums));
}

inline Vec to_float(Codes c, std::size_t /*part*/) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(c));
}
inline Vec load_half(const std::uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load_bfloat(const std::uint8_t* p) {
  const __m256i upper = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16));
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
