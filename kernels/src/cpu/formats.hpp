// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

// The storage formats. Every struct is one format: its block size, and decode(), which hands the
// block's elements, in order of index and kLanes at a time, to emit(index, Vec). The rounding of
// each element is the format's definition: the scale of a group first, then scale * code, then
// minus or plus the offset, each rounded to float32.

namespace tensor_pager::kernels::cpu {
namespace {

// A plain call per block would cost as much as the block.
#define TENSOR_PAGER_INLINE [[gnu::always_inline]] inline

TENSOR_PAGER_INLINE float half_at(const std::uint8_t* p) {
  std::uint16_t half;
  std::memcpy(&half, p, sizeof half);
  return half_to_float(half);
}

template <class T>
TENSOR_PAGER_INLINE T word_at(const std::uint8_t* p) {
  T word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

// scale * code for 16 elements from `index` on.
template <class Emit>
TENSOR_PAGER_INLINE void emit_scaled(Emit emit, std::size_t index, Codes c, float scale) {
#pragma GCC unroll 4
  for (std::size_t part = 0; part < 16 / kLanes; ++part) {
    emit(index + part * kLanes, mul(broadcast(scale), to_float(c, part)));
  }
}

// scale * code + offset, with two roundings. Subtracting an offset is adding its negative, bit for
// bit.
template <class Emit>
TENSOR_PAGER_INLINE void emit_affine(Emit emit, std::size_t index, Codes c, float scale,
                                     float offset) {
#pragma GCC unroll 4
  for (std::size_t part = 0; part < 16 / kLanes; ++part) {
    const Vec scaled = mul(broadcast(scale), to_float(c, part));
    emit(index + part * kLanes, add(scaled, broadcast(offset)));
  }
}

// out[i] = factor * code[i]: the scales of a block's groups.
TENSOR_PAGER_INLINE void scale_codes(float* out, Codes c, float factor) {
#pragma GCC unroll 4
  for (std::size_t part = 0; part < 16 / kLanes; ++part) {
    store(out + part * kLanes, mul(broadcast(factor), to_float(c, part)));
  }
}

TENSOR_PAGER_INLINE Codes low_nibbles(Codes c) {
  return bit_and(c, codes(0x0F));
}
TENSOR_PAGER_INLINE Codes high_nibbles(Codes c) {
  return bit_and(shift_right(c, 4), codes(0x0F));
}
// Two bits of each byte, from bit `shift` on.
TENSOR_PAGER_INLINE Codes bit_pairs(Codes c, int shift) {
  return bit_and(shift_right(c, shift), codes(0x03));
}

// The 16 values that a 4-bit code of the IQ4 formats stands for.
alignas(16) inline constexpr std::int8_t kIq4Values[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

TENSOR_PAGER_INLINE Codes iq4_values() {
  return load_codes(reinterpret_cast<const std::uint8_t*>(kIq4Values));
}

// Unquantised formats have blocks of one element; 16 are converted at a time.
struct F32 {
  static constexpr std::size_t kElements = 16, kBytes = 64;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 16; i += kLanes) {
      float values[kLanes];
      std::memcpy(values, block + 4 * i, sizeof values);
      emit(i, load(values));
    }
  }
};

struct F16 {
  static constexpr std::size_t kElements = 16, kBytes = 32;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 16; i += kLanes) emit(i, load_half(block + 2 * i));
  }
};

struct Bf16 {
  static constexpr std::size_t kElements = 16, kBytes = 32;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 16; i += kLanes) emit(i, load_bfloat(block + 2 * i));
  }
};

// half d; 16 bytes: element i in the low nibble of byte i, element i + 16 in the high one.
struct Q4_0 {
  static constexpr std::size_t kElements = 32, kBytes = 18;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block);
    const Codes q = load_codes(block + 2);
    emit_scaled(emit, 0, subtract(low_nibbles(q), codes(8)), d);
    emit_scaled(emit, 16, subtract(high_nibbles(q), codes(8)), d);
  }
};

// half d, half minimum; nibbles as Q4_0.
struct Q4_1 {
  static constexpr std::size_t kElements = 32, kBytes = 20;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block);
    const float minimum = half_at(block + 2);
    const Codes q = load_codes(block + 4);
    emit_affine(emit, 0, low_nibbles(q), d, minimum);
    emit_affine(emit, 16, high_nibbles(q), d, minimum);
  }
};

// half d; 32 fifth bits, bit i of element i; nibbles as Q4_0.
struct Q5_0 {
  static constexpr std::size_t kElements = 32, kBytes = 22;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block);
    const auto fifth = word_at<std::uint32_t>(block + 2);
    const Codes q = load_codes(block + 6);
    const Codes low = bit_or(low_nibbles(q), where_bit(fifth, codes(16)));
    const Codes high = bit_or(high_nibbles(q), where_bit(fifth >> 16, codes(16)));
    emit_scaled(emit, 0, subtract(low, codes(16)), d);
    emit_scaled(emit, 16, subtract(high, codes(16)), d);
  }
};

// half d, half minimum; bits as Q5_0.
struct Q5_1 {
  static constexpr std::size_t kElements = 32, kBytes = 24;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block);
    const float minimum = half_at(block + 2);
    const auto fifth = word_at<std::uint32_t>(block + 4);
    const Codes q = load_codes(block + 8);
    emit_affine(emit, 0, bit_or(low_nibbles(q), where_bit(fifth, codes(16))), d, minimum);
    emit_affine(emit, 16, bit_or(high_nibbles(q), where_bit(fifth >> 16, codes(16))), d, minimum);
  }
};

// half d; 32 signed bytes.
struct Q8_0 {
  static constexpr std::size_t kElements = 32, kBytes = 34;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block);
    emit_scaled(emit, 0, load_codes(block + 2), d);
    emit_scaled(emit, 16, load_codes(block + 18), d);
  }
};

// 16 bytes of 4-bit scale (low) and minimum (high) per 16 elements; 64 bytes of 2-bit codes: a half
// block of 128 elements is 32 bytes, elements 32 j to 32 j + 31 at bit 2 j; half d, half d of the
// minima.
struct Q2K {
  static constexpr std::size_t kElements = 256, kBytes = 84;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    alignas(64) float scales[16];
    alignas(64) float offsets[16];
    const Codes packed = load_codes(block);
    scale_codes(scales, low_nibbles(packed), half_at(block + 80));
    scale_codes(offsets, high_nibbles(packed), -half_at(block + 82));
#pragma GCC unroll 2
    for (std::size_t half = 0; half < 2; ++half) {
      const Codes q0 = load_codes(block + 16 + 32 * half);
      const Codes q1 = load_codes(block + 32 + 32 * half);
#pragma GCC unroll 4
      for (std::size_t j = 0; j < 4; ++j) {
        const std::size_t group = 8 * half + 2 * j;
        const int shift = static_cast<int>(2 * j);
        emit_affine(emit, 16 * group, bit_pairs(q0, shift), scales[group], offsets[group]);
        emit_affine(emit, 16 * group + 16, bit_pairs(q1, shift), scales[group + 1],
                    offsets[group + 1]);
      }
    }
  }
};

// 32 bytes of high bits: bit j of byte i belongs to element 32 j + i, and 4 is subtracted where it
// is clear; 64 bytes of 2-bit codes as Q2_K; 16 six-bit scales, offset 32, in 12 bytes: bytes 0 to
// 7 hold the low nibbles of scales 0 to 7 (low) and 8 to 15 (high), bytes 8 to 11 the upper bit
// pairs, scale s in byte 8 + s % 4 at bit 2 (s / 4); half d.
struct Q3K {
  static constexpr std::size_t kElements = 256, kBytes = 110;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    alignas(64) float scales[16];
    scale_codes(scales, subtract(scale_bits(block + 96), codes(32)), half_at(block + 108));
    const Codes high0 = load_codes(block);
    const Codes high1 = load_codes(block + 16);
#pragma GCC unroll 2
    for (std::size_t half = 0; half < 2; ++half) {
      const Codes q0 = load_codes(block + 32 + 32 * half);
      const Codes q1 = load_codes(block + 48 + 32 * half);
#pragma GCC unroll 4
      for (std::size_t j = 0; j < 4; ++j) {
        const std::size_t group = 8 * half + 2 * j;
        const int shift = static_cast<int>(2 * j);
        const Codes mask = codes(1 << (4 * half + j));
        const Codes minus0 = where_zero(bit_and(high0, mask), codes(4));
        const Codes minus1 = where_zero(bit_and(high1, mask), codes(4));
        emit_scaled(emit, 16 * group, subtract(bit_pairs(q0, shift), minus0), scales[group]);
        emit_scaled(emit, 16 * group + 16, subtract(bit_pairs(q1, shift), minus1),
                    scales[group + 1]);
      }
    }
  }

  TENSOR_PAGER_INLINE static Codes scale_bits(const std::uint8_t* packed) {
    const auto a = word_at<std::uint32_t>(packed);
    const auto b = word_at<std::uint32_t>(packed + 4);
    const auto upper = word_at<std::uint32_t>(packed + 8);
    constexpr std::uint32_t kNibble = 0x0F0F0F0F;
    constexpr std::uint32_t kPair = 0x03030303;
    const std::uint32_t words[4] = {(a & kNibble) | (upper & kPair) << 4,
                                    (b & kNibble) | (upper >> 2 & kPair) << 4,
                                    (a >> 4 & kNibble) | (upper >> 4 & kPair) << 4,
                                    (b >> 4 & kNibble) | (upper >> 6 & kPair) << 4};
    return load_codes(reinterpret_cast<const std::uint8_t*>(words));
  }
};

// Scales and minima of Q4_K and Q5_K: eight of each, six bits wide, in 12 bytes. The first four
// scales are the low six bits of bytes 0 to 3, the first four minima those of bytes 4 to 7; scale
// (minimum) 4 + i has its low nibble in the low (high) half of byte 8 + i and its upper two bits at
// the top of byte i (4 + i).
struct KScales {
  alignas(64) float values[16];  // 8 scales, 8 minima as negative offsets

  TENSOR_PAGER_INLINE KScales(const std::uint8_t* packed, float d, float d_minimum) {
    const auto a = word_at<std::uint32_t>(packed);
    const auto b = word_at<std::uint32_t>(packed + 4);
    const auto c = word_at<std::uint32_t>(packed + 8);
    constexpr std::uint32_t kSix = 0x3F3F3F3F;
    constexpr std::uint32_t kNibble = 0x0F0F0F0F;
    constexpr std::uint32_t kPair = 0x03030303;
    const std::uint32_t words[4] = {a & kSix, (c & kNibble) | (a >> 6 & kPair) << 4, b & kSix,
                                    (c >> 4 & kNibble) | (b >> 6 & kPair) << 4};
    scale_codes(values, load_codes(reinterpret_cast<const std::uint8_t*>(words)), 1.0F);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < 8; ++i) {
      values[i] = d * values[i];
      values[8 + i] = -(d_minimum * values[8 + i]);
    }
  }
  TENSOR_PAGER_INLINE float scale(std::size_t group) const {
    return values[group];
  }
  TENSOR_PAGER_INLINE float offset(std::size_t group) const {
    return values[8 + group];
  }
};

// half d, half d of the minima; KScales, one pair per 32 elements; 128 bytes: 64 elements in 32
// bytes, the first 32 in the low nibbles, the others in the high ones.
struct Q4K {
  static constexpr std::size_t kElements = 256, kBytes = 144;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const KScales k(block + 4, half_at(block), half_at(block + 2));
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 4; ++j) {
      const Codes q0 = load_codes(block + 16 + 32 * j);
      const Codes q1 = load_codes(block + 32 + 32 * j);
      const std::size_t low = 2 * j;
      const std::size_t high = 2 * j + 1;
      emit_affine(emit, 64 * j, low_nibbles(q0), k.scale(low), k.offset(low));
      emit_affine(emit, 64 * j + 16, low_nibbles(q1), k.scale(low), k.offset(low));
      emit_affine(emit, 64 * j + 32, high_nibbles(q0), k.scale(high), k.offset(high));
      emit_affine(emit, 64 * j + 48, high_nibbles(q1), k.scale(high), k.offset(high));
    }
  }
};

// As Q4_K, with 32 bytes of fifth bits after the scales: bit j of byte i belongs to element 32 j +
// i.
struct Q5K {
  static constexpr std::size_t kElements = 256, kBytes = 176;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const KScales k(block + 4, half_at(block), half_at(block + 2));
    const Codes fifth0 = load_codes(block + 16);
    const Codes fifth1 = load_codes(block + 32);
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 4; ++j) {
      const Codes q0 = load_codes(block + 48 + 32 * j);
      const Codes q1 = load_codes(block + 64 + 32 * j);
      const std::size_t low = 2 * j;
      const std::size_t high = 2 * j + 1;
      emit_affine(emit, 64 * j, with_fifth(low_nibbles(q0), fifth0, low), k.scale(low),
                  k.offset(low));
      emit_affine(emit, 64 * j + 16, with_fifth(low_nibbles(q1), fifth1, low), k.scale(low),
                  k.offset(low));
      emit_affine(emit, 64 * j + 32, with_fifth(high_nibbles(q0), fifth0, high), k.scale(high),
                  k.offset(high));
      emit_affine(emit, 64 * j + 48, with_fifth(high_nibbles(q1), fifth1, high), k.scale(high),
                  k.offset(high));
    }
  }

  TENSOR_PAGER_INLINE static Codes with_fifth(Codes nibbles, Codes fifth, std::size_t bit) {
    const Codes one = bit_and(shift_right(fifth, static_cast<int>(bit)), codes(1));
    return bit_or(nibbles, shift_left(one, 4));
  }
};

// 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, half d; codes have offset 32.
// A half block of 128 elements has four runs of 32: the low nibbles of bytes 0 to 31, of 32 to 63,
// then the high ones; run r's upper bits are at bit 2 r of the half's 32 bytes. One scale per 16
// elements.
struct Q6K {
  static constexpr std::size_t kElements = 256, kBytes = 210;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    alignas(64) float scales[16];
    scale_codes(scales, load_codes(block + 192), half_at(block + 208));
#pragma GCC unroll 2
    for (std::size_t half = 0; half < 2; ++half) {
#pragma GCC unroll 4
      for (std::size_t run = 0; run < 4; ++run) {
#pragma GCC unroll 2
        for (std::size_t part = 0; part < 2; ++part) {
          const Codes q = load_codes(block + 64 * half + 32 * (run % 2) + 16 * part);
          const Codes low = run < 2 ? low_nibbles(q) : high_nibbles(q);
          const Codes upper = load_codes(block + 128 + 32 * half + 16 * part);
          const Codes pairs = shift_left(bit_pairs(upper, static_cast<int>(2 * run)), 4);
          const std::size_t group = 8 * half + 2 * run + part;
          emit_scaled(emit, 16 * group, subtract(bit_or(low, pairs), codes(32)), scales[group]);
        }
      }
    }
  }
};

// As Q4_0, each code standing for one of 16 values.
struct Iq4Nl {
  static constexpr std::size_t kElements = 32, kBytes = 18;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block);
    const Codes q = load_codes(block + 2);
    emit_scaled(emit, 0, lookup(iq4_values(), low_nibbles(q)), d);
    emit_scaled(emit, 16, lookup(iq4_values(), high_nibbles(q)), d);
  }
};

// half d; eight six-bit scales, offset 32: upper bit pairs in a 16-bit word, low nibbles in 4
// bytes; per scale, 32 elements in 16 bytes as IQ4_NL.
struct Iq4Xs {
  static constexpr std::size_t kElements = 256, kBytes = 136;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block);
    const std::uint32_t upper = word_at<std::uint16_t>(block + 2);
    const auto lower = word_at<std::uint32_t>(block + 4);
#pragma GCC unroll 8
    for (std::size_t group = 0; group < 8; ++group) {
      const std::uint32_t bits = (lower >> (4 * group) & 0x0F) | (upper >> (2 * group) & 0x03) << 4;
      const float scale = d * static_cast<float>(static_cast<int>(bits) - 32);
      const Codes q = load_codes(block + 8 + 16 * group);
      emit_scaled(emit, 32 * group, lookup(iq4_values(), low_nibbles(q)), scale);
      emit_scaled(emit, 32 * group + 16, lookup(iq4_values(), high_nibbles(q)), scale);
    }
  }
};

}  // namespace
}  // namespace tensor_pager::kernels::cpu
