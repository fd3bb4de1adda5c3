// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

// Vectors of the processor family's baseline, written with the compiler's vector extension: SSE2 on
// x86-64, NEON on AArch64, plain code elsewhere. One lanes_*.hpp per instruction set defines the
// same names; see kernels.hpp for why everything is in an unnamed namespace.

namespace tensor_pager::kernels::cpu {
namespace {

using Vec = float __attribute__((vector_size(16)));
using IntVec = std::int32_t __attribute__((vector_size(16)));
using Codes = std::uint8_t __attribute__((vector_size(16)));  // 16 small integers

inline constexpr std::size_t kLanes = 4;
inline constexpr std::size_t kTokenTile = 3;     // tokens in the register tile of dot_tile
inline constexpr std::size_t kOuterVectors = 2;  // vectors in the register tile of attention

// out[j][i] = in[i][j], for kSquare rows and columns.
inline constexpr std::size_t kSquare = 4;
inline void transpose_square(const float* in, std::size_t in_stride, float* out,
                             std::size_t out_stride) {
  for (std::size_t i = 0; i < kSquare; ++i) {
    for (std::size_t j = 0; j < kSquare; ++j) out[j * out_stride + i] = in[i * in_stride + j];
  }
}

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v) {
  std::memcpy(p, &v, sizeof v);
}
inline Vec broadcast(float f) {
  return Vec{f, f, f, f};
}
inline Vec add(Vec a, Vec b) {
  return a + b;
}
inline Vec sub(Vec a, Vec b) {
  return a - b;
}
inline Vec mul(Vec a, Vec b) {
  return a * b;
}
inline Vec div(Vec a, Vec b) {
  return a / b;
}
inline Vec multiply_add(Vec a, Vec b, Vec c) {
  return a * b + c;
}
inline Vec min(Vec a, Vec b) {
  return a < b ? a : b;
}  // b if either is not a number
inline Vec max(Vec a, Vec b) {
  return a > b ? a : b;
}
inline Vec zero_where_less(Vec v, Vec a, Vec b) {
  return a < b ? Vec{} : v;
}
inline Vec round_to_integer(Vec v) {
  const Vec magic = broadcast(12582912.0F);  // 1.5 * 2^23: adding it leaves no room for a fraction
  return (v + magic) - magic;
}
inline Vec times_power_of_two(Vec v, Vec integer) {
  const IntVec exponent = __builtin_convertvector(integer, IntVec) << 23;
  return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(v) + exponent);
}

inline void add_sums(float* out, Vec a, Vec b, Vec c, Vec d) {
  out[0] += (a[0] + a[1]) + (a[2] + a[3]);
  out[1] += (b[0] + b[1]) + (b[2] + b[3]);
  out[2] += (c[0] + c[1]) + (c[2] + c[3]);
  out[3] += (d[0] + d[1]) + (d[2] + d[3]);
}

inline Codes load_codes(const std::uint8_t* p) {
  Codes c;
  std::memcpy(&c, p, sizeof c);
  return c;
}
// The bytes of words, the lowest byte of the first word first.
inline Codes join(std::uint64_t low, std::uint64_t high) {
  const std::uint64_t words[2] = {low, high};
  return load_codes(reinterpret_cast<const std::uint8_t*>(words));
}
inline Codes join(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  const std::uint32_t words[4] = {a, b, c, d};
  return load_codes(reinterpret_cast<const std::uint8_t*>(words));
}
inline Codes codes(int value) {
  return Codes{} + static_cast<std::uint8_t>(value);
}
inline Codes bit_and(Codes a, Codes b) {
  return a & b;
}
inline Codes bit_or(Codes a, Codes b) {
  return a | b;
}
inline Codes subtract(Codes a, Codes b) {
  return a - b;
}
// Shifts may carry bits into the neighbouring byte: mask afterwards (right) or beforehand (left).
inline Codes shift_right(Codes c, int n) {
  return c >> static_cast<std::uint8_t>(n);
}
inline Codes shift_left(Codes c, int n) {
  return c << static_cast<std::uint8_t>(n);
}
inline Codes where_zero(Codes c, Codes value) {
  return reinterpret_cast<Codes>(c == Codes{}) & value;
}
inline Codes lookup(Codes table, Codes index) {
  Codes result{};
  for (int i = 0; i < 16; ++i) result[i] = table[index[i] & 15];
  return result;
}
inline Codes where_bit(std::uint32_t bits,
                       Codes value) {  // element i is value if bit i of the low 16 is set
  Codes result{};
  for (int i = 0; i < 16; ++i) result[i] = (bits >> i & 1) != 0 ? value[i] : std::uint8_t{0};
  return result;
}
inline Codes with_signs(Codes c, Codes signs) {  // times factors of 1 and -1
  const Codes minus = reinterpret_cast<Codes>(signs == codes(0xFF));
  return (c ^ minus) - minus;
}
inline Vec to_float(Codes c, std::size_t part) {  // signed; vector `part` of the 16 / kLanes
  IntVec v{};
  for (std::size_t i = 0; i < kLanes; ++i) {
    v[i] = (std::int32_t{c[part * kLanes + i]} ^ 0x80) - 0x80;
  }
  return __builtin_convertvector(v, Vec);
}

inline float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16;
  const std::uint32_t magnitude = half & 0x7FFFU;
  float result;
  if (magnitude < 0x0400U) {  // zero or subnormal: units of 2^-24
    result = static_cast<float>(magnitude) * 0x1p-24F;
  } else {
    std::uint32_t bits = (magnitude << 13) + (112U << 23);
    if (magnitude >= 0x7C00U) bits += 112U << 23;  // infinity or not a number
    if (magnitude > 0x7C00U) bits |= 0x00400000U;  // quiet, as hardware makes it
    std::memcpy(&result, &bits, sizeof result);
  }
  std::uint32_t bits;
  std::memcpy(&bits, &result, sizeof bits);
  bits |= sign;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}
inline Vec load_half(const std::uint8_t* p) {
  Vec v{};
  for (std::size_t i = 0; i < kLanes; ++i) {
    std::uint16_t half;
    std::memcpy(&half, p + 2 * i, sizeof half);
    v[i] = half_to_float(half);
  }
  return v;
}
inline Vec load_bfloat(const std::uint8_t* p) {
  IntVec v{};
  for (std::size_t i = 0; i < kLanes; ++i) {
    std::uint16_t upper;
    std::memcpy(&upper, p + 2 * i, sizeof upper);
    v[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(upper) << 16);
  }
  return reinterpret_cast<Vec>(v);
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
