// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu/formats.hpp"

// Four-bit floats (OCP's MX formats and NVIDIA's NVFP4), and ternary codes.

namespace tensor_pager::kernels::cpu {
namespace {

// Twice the value of an E2M1 float, by its bits.
alignas(16) inline constexpr std::int8_t kTwiceE2m1[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                                           0, -1, -2, -3, -4, -6, -8, -12};

TENSOR_PAGER_INLINE Codes twice_e2m1(Codes nibbles) {
  return lookup(load_codes(reinterpret_cast<const std::uint8_t*>(kTwiceE2m1)), nibbles);
}

TENSOR_PAGER_INLINE float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Half of an E8M0 scale: 2^(e - 128). The two smallest are subnormal.
TENSOR_PAGER_INLINE float half_of_e8m0(std::uint32_t e) {
  return float_of(e < 2 ? 0x00200000U << e : (e - 1) << 23);
}

// Half of an unsigned E4M3 scale with bias 7; bit 7 does not count, and 0x7F is zero.
TENSOR_PAGER_INLINE float half_of_ue4m3(std::uint32_t bits) {
  const std::uint32_t magnitude = bits & 0x7F;
  if (bits == 0x7F) return 0.0F;
  if (magnitude < 8) return static_cast<float>(magnitude) * 0x1p-10F;  // subnormal
  return float_of((magnitude << 20) + (119U << 23));
}

// A byte of scale; 16 bytes: element i in the low nibble of byte i, element i + 16 in the high one.
struct Mxfp4 {
  static constexpr std::size_t kElements = 32, kBytes = 17;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_of_e8m0(block[0]);
    const Codes q = load_codes(block + 1);
    emit_scaled(emit, 0, twice_e2m1(low_nibbles(q)), d);
    emit_scaled(emit, 16, twice_e2m1(high_nibbles(q)), d);
  }
};

// Four bytes of scale, one for 16 elements; for each of them eight bytes: element i in the low
// nibble of byte i, element i + 8 in the high one.
struct Nvfp4 {
  static constexpr std::size_t kElements = 64, kBytes = 36;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    for (std::size_t group = 0; group < 4; ++group) {
      const auto q = word_at<std::uint64_t>(block + 4 + 8 * group);
      const Codes nibbles = low_nibbles(join(q, q >> 4));
      emit_scaled(emit, 16 * group, twice_e2m1(nibbles), half_of_ue4m3(block[group]));
    }
  }
};

// 48 bytes of five ternary digits and 4 of four, each a fraction of 256 whose digits are what
// multiplying by three carries out; half d. Digit n of the first 32 bytes makes elements 32 n on,
// of the next 16 bytes 160 + 16 n on, of the last four 240 + 4 n on; a digit is one more than its
// value.
struct Tq1_0 {
  static constexpr std::size_t kElements = 256, kBytes = 54;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    alignas(64) std::uint8_t values[256];
    digits(block, 32, 5, values);
    digits(block + 32, 16, 5, values + 160);
    digits(block + 48, 4, 4, values + 240);
    const float d = half_at(block + 52);
    for (std::size_t i = 0; i < 256; i += 16) emit_scaled(emit, i, load_codes(values + i), d);
  }

  static void digits(const std::uint8_t* bytes, std::size_t count, std::size_t per_byte,
                     std::uint8_t* out) {
    std::uint32_t power = 1;
    for (std::size_t n = 0; n < per_byte; ++n, power *= 3) {
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t fraction = bytes[i] * power & 255;
        out[count * n + i] = static_cast<std::uint8_t>((fraction * 3 >> 8) - 1);
      }
    }
  }
};

// 64 bytes of 2-bit digits as Q2_K has them, one more than their values; half d.
struct Tq2_0 {
  static constexpr std::size_t kElements = 256, kBytes = 66;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block + 64);
#pragma GCC unroll 8
    for (std::size_t run = 0; run < 8; ++run) {
      const std::uint8_t* q = block + 32 * (run / 4);
      const int shift = static_cast<int>(2 * (run % 4));
      for (std::size_t i = 0; i < 32; i += 16) {
        const Codes digits = bit_pairs(load_codes(q + i), shift);
        emit_scaled(emit, 32 * run + i, subtract(digits, codes(1)), d);
      }
    }
  }
};

}  // namespace
}  // namespace tensor_pager::kernels::cpu
