// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

// Sixteen small integers in a 128-bit register, for both x86 instruction sets.

namespace tensor_pager::kernels::cpu {
namespace {

using Codes = __m128i;

inline Codes load_codes(const std::uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline Codes join(std::uint64_t low, std::uint64_t high) {
  return _mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low));
}
inline Codes join(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  return _mm_setr_epi32(static_cast<int>(a), static_cast<int>(b), static_cast<int>(c),
                        static_cast<int>(d));
}
inline Codes codes(int value) {
  return _mm_set1_epi8(static_cast<char>(value));
}
inline Codes bit_and(Codes a, Codes b) {
  return _mm_and_si128(a, b);
}
inline Codes bit_or(Codes a, Codes b) {
  return _mm_or_si128(a, b);
}
inline Codes subtract(Codes a, Codes b) {
  return _mm_sub_epi8(a, b);
}
// Shifts may carry bits into the neighbouring byte: mask afterwards (right) or beforehand (left).
inline Codes shift_right(Codes c, int n) {
  return _mm_srli_epi16(c, n);
}
inline Codes shift_left(Codes c, int n) {
  return _mm_slli_epi16(c, n);
}
inline Codes where_zero(Codes c, Codes value) {
  return _mm_and_si128(_mm_cmpeq_epi8(c, _mm_setzero_si128()), value);
}
inline Codes with_signs(Codes c, Codes signs) {
  return _mm_sign_epi8(c, signs);
}
inline Codes lookup(Codes table, Codes index) {
  return _mm_shuffle_epi8(table, index);
}
inline Codes where_bit(std::uint32_t bits,
                       Codes value) {  // element i is value if bit i of the low 16 is set
  const Codes spread =
      _mm_shuffle_epi8(_mm_set1_epi16(static_cast<short>(bits)),
                       _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  const Codes bit = _mm_set1_epi64x(static_cast<long long>(0x8040201008040201ULL));
  return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(spread, bit), bit), value);
}

inline float half_to_float(std::uint16_t half) {
  return _cvtsh_ss(half);
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
