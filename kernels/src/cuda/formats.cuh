// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "cuda/shared_bytes.cuh"

// The quantised formats, as src/cpu/formats.hpp describes them. A thread decodes a unit of 16
// elements: two runs of eight whose codes come from the same bytes. Every element of a run is
// scale * (code - kBias) + offset, with codes of one byte, so that a product can apply scale and
// offset once per run. kUnitsPerScale units that follow each other, from a multiple of it on, have
// the same scales.
//
// kOneScale says that a unit's two runs have one, too.
//
// decode() takes pointers that are multiples of kAlign.

namespace tensor_pager::kernels::cuda {

// Two words of four codes each, one code per byte.
struct Codes {
  std::uint32_t low, high;
};

struct Run {
  Codes codes;
  float scale;
  float offset;  // of affine formats
};

// The same in integers, where a block has one factor and its groups have integer scales: elements
// are d * scale * code, with offsets -d_minimum * minimum. Codes are as they are multiplied, signed
// where there is a bias; those of the second run are kSecondFactor times as large, and have
// factor() in place of d.
struct IntegerRun {
  Codes codes;
  int scale;
};

template <int kAlign>
__device__ inline std::uint32_t load_word(const std::uint8_t* p) {
  if constexpr (kAlign >= 4) {
    return *reinterpret_cast<const std::uint32_t*>(p);
  } else if constexpr (kAlign >= 2) {
    const auto* half = reinterpret_cast<const std::uint16_t*>(p);
    return half[0] | static_cast<std::uint32_t>(half[1]) << 16;
  } else {
    return p[0] | static_cast<std::uint32_t>(p[1]) << 8 | static_cast<std::uint32_t>(p[2]) << 16 |
           static_cast<std::uint32_t>(p[3]) << 24;
  }
}

template <int kAlign>
__device__ inline Codes load_codes(const std::uint8_t* p) {
  if constexpr (kAlign >= 8) {
    const uint2 words = *reinterpret_cast<const uint2*>(p);
    return {words.x, words.y};
  } else {
    return {load_word<kAlign>(p), load_word<kAlign>(p + 4)};
  }
}

__device__ inline std::uint32_t load_short(const std::uint8_t* p) {
  return *reinterpret_cast<const std::uint16_t*>(p);
}

// The same from shared memory; what kAlign says, the type does.
template <int kAlign, int kBlock>
__device__ inline std::uint32_t load_word(const SharedBytes<kBlock>& p) {
  return p.word();
}
template <int kAlign, int kBlock>
__device__ inline Codes load_codes(const SharedBytes<kBlock>& p) {
  if constexpr (kAlign >= 8) {
    const uint2 words = shared::two_words(p.address());
    return {words.x, words.y};
  } else {
    return {p.word(0), p.word(1)};
  }
}
template <int kBlock>
__device__ inline std::uint32_t load_short(const SharedBytes<kBlock>& p) {
  return shared::half(p.address());
}

__device__ inline uint4 load_four_words(const std::uint8_t* p) {
  return *reinterpret_cast<const uint4*>(p);
}
__device__ inline uint4 load_four_words(const SharedBytes<16>& p) {
  return shared::four_words(p.address());
}

template <class P>
__device__ inline float load_half(const P& p) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(load_short(p))));
}

// Byte `index` of a word as a float, less a bias: as to_floats does it.
template <int kBias = 0>
__device__ inline float byte_to_float(std::uint32_t word, unsigned index) {
  const float shifted = __uint_as_float(__byte_perm(word, 0x4B000000U, 0x7440U + index));
  return __fsub_rn(shifted, 8388608.0F + kBias);
}

__device__ inline int byte_of(std::uint32_t word, unsigned index) {
  return static_cast<int>(__byte_perm(word, 0, 0x4440U + index));
}
// The upper bits of a selector, which __byte_perm leaves out, repeat a byte's sign.
__device__ inline int signed_byte_of(std::uint32_t word, unsigned index) {
  int byte;
  asm("prmt.b32 %0, %1, 0, %2;\n" : "=r"(byte) : "r"(word), "r"(0x8880U + 0x1111U * index));
  return byte;
}

// Code - kBias of four bytes, signed.
template <int kBias>
__device__ inline std::uint32_t signed_bytes(std::uint32_t codes) {
  if constexpr (kBias == 0) return codes;  // below 128
  constexpr std::uint32_t kUp = (128U - kBias) * 0x01010101U;
  return (codes + kUp) ^ 0x80808080U;
}
template <int kBias>
__device__ inline Codes signed_codes(Codes c) {
  return {signed_bytes<kBias>(c.low), signed_bytes<kBias>(c.high)};
}

// Bits [shift, shift + width of mask) of every byte.
__device__ inline Codes bits(Codes c, int shift, std::uint32_t mask) {
  return {c.low >> shift & mask, c.high >> shift & mask};
}
__device__ inline Codes low_nibbles(Codes c) {
  return bits(c, 0, 0x0F0F0F0FU);
}
__device__ inline Codes high_nibbles(Codes c) {
  return bits(c, 4, 0x0F0F0F0FU);
}
// upper << shift joined to c. The shifted bits stay within their bytes.
__device__ inline Codes join(Codes c, Codes upper, int shift) {
  return {c.low | upper.low << shift, c.high | upper.high << shift};
}

// Byte - kBias of four bytes as floats. A byte b put below the exponent of 2^23 is the float
// 2^23 + b: one permutation and one exact subtraction, instead of a conversion at a quarter of
// their rate.
template <int kBias>
__device__ inline void to_floats(std::uint32_t word, float* out) {
#pragma unroll
  for (std::uint32_t i = 0; i < 4; ++i) {
    const float shifted = __uint_as_float(__byte_perm(word, 0x4B000000U, 0x7440U | i));
    out[i] = __fsub_rn(shifted, 8388608.0F + kBias);
  }
}

template <int kBias>
__device__ inline void to_floats(Codes c, float* out) {
  to_floats<kBias>(c.low, out);
  to_floats<kBias>(c.high, out + 4);
}

// Bit i of the low eight bits at bit 0 of byte i: the factor copies four bits to distances of
// seven, which puts each below its byte.
__device__ inline Codes spread_bits(std::uint32_t eight) {
  constexpr std::uint32_t kCopies = 0x00204081U;
  constexpr std::uint32_t kFirst = 0x01010101U;
  return {(eight & 0x0FU) * kCopies & kFirst, (eight >> 4 & 0x0FU) * kCopies & kFirst};
}

// Sixteen bytes that nibbles stand for.
struct NibbleValues {
  std::uint32_t words[4];

  // Those of the low four nibbles, in order.
  __device__ std::uint32_t of_four(std::uint32_t nibbles) const {
    const std::uint32_t index = nibbles & 0x7777U;
    const std::uint32_t lower = __byte_perm(words[0], words[1], index);
    const std::uint32_t upper = __byte_perm(words[2], words[3], index);
    return __byte_perm(lower, upper, 0x3210U + ((nibbles & 0x8888U) >> 1));
  }

  // Of all eight: those of the low nibbles of the bytes in `low`, of the high ones in `high`.
  __device__ Codes of_bytes(std::uint32_t nibbles) const {
    const std::uint32_t first = of_four(nibbles);
    const std::uint32_t second = of_four(nibbles >> 16);
    return {__byte_perm(first, second, 0x6420U), __byte_perm(first, second, 0x7531U)};
  }
};

// Eight bytes: the first run in their low nibbles, the second in the high ones. `values` are biased
// by 128.
__device__ inline void decode_nibbles(Codes q, const NibbleValues& values, float scale,
                                      Run (&runs)[2]) {
  const Codes a = values.of_bytes(q.low);
  const Codes b = values.of_bytes(q.high);
  runs[0].codes = Codes{a.low, b.low};
  runs[1].codes = Codes{a.high, b.high};
  runs[0].scale = scale;
  runs[1].scale = scale;
}

__device__ inline void decode_iq4(Codes q, float scale, Run (&runs)[2]) {
  decode_nibbles(q, {0x3F2D1801U, 0x766A5D4FU, 0xA6998D81U, 0xF1D9C5B5U}, scale, runs);
}

// Formats of 32 elements: unit u holds elements [8 u, 8 u + 8) and 16 more on.
struct Block32 {
  static constexpr int kElements = 32;
  static constexpr int kSecond = 16;  // from the first run to the second, in elements
  static constexpr int kUnitsPerScale = 2;
  static constexpr bool kOneScale = true;
  __device__ static constexpr int first(int unit) { return 8 * unit; }
};

struct Q4_0 : Block32 {
  static constexpr int kBytes = 18;
  static constexpr bool kAffine = false;
  static constexpr int kBias = 8;
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    const Codes q = load_codes<2>(block + 2 + 8 * unit);
    runs[0].codes = low_nibbles(q);
    runs[1].codes = high_nibbles(q);
    runs[0].scale = runs[1].scale = load_half(block);
  }
};

struct Q4_1 : Block32 {
  static constexpr int kBytes = 20;
  static constexpr bool kAffine = true;
  static constexpr int kBias = 0;
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    const Codes q = load_codes < kAlign < 4 ? kAlign : 4 > (block + 4 + 8 * unit);
    runs[0].codes = low_nibbles(q);
    runs[1].codes = high_nibbles(q);
    runs[0].scale = runs[1].scale = load_half(block);
    runs[0].offset = runs[1].offset = load_half(block + 2);
  }
};

struct Q5_0 : Block32 {
  static constexpr int kBytes = 22;
  static constexpr bool kAffine = false;
  static constexpr int kBias = 16;
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    const std::uint32_t fifth = load_word<2>(block + 2) >> 8 * unit;
    const Codes q = load_codes<2>(block + 6 + 8 * unit);
    runs[0].codes = join(low_nibbles(q), spread_bits(fifth), 4);
    runs[1].codes = join(high_nibbles(q), spread_bits(fifth >> 16), 4);
    runs[0].scale = runs[1].scale = load_half(block);
  }
};

struct Q5_1 : Block32 {
  static constexpr int kBytes = 24;
  static constexpr bool kAffine = true;
  static constexpr int kBias = 0;
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    const std::uint32_t fifth = load_word<kAlign>(block + 4) >> 8 * unit;
    const Codes q = load_codes<kAlign>(block + 8 + 8 * unit);
    runs[0].codes = join(low_nibbles(q), spread_bits(fifth), 4);
    runs[1].codes = join(high_nibbles(q), spread_bits(fifth >> 16), 4);
    runs[0].scale = runs[1].scale = load_half(block);
    runs[0].offset = runs[1].offset = load_half(block + 2);
  }
};

struct Q8_0 : Block32 {
  static constexpr int kBytes = 34;
  static constexpr bool kAffine = false;
  static constexpr int kBias = 128;
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    constexpr std::uint32_t kSign = 0x80808080U;
    const Codes a = load_codes<2>(block + 2 + 8 * unit);
    const Codes b = load_codes<2>(block + 18 + 8 * unit);
    runs[0].codes = Codes{a.low ^ kSign, a.high ^ kSign};
    runs[1].codes = Codes{b.low ^ kSign, b.high ^ kSign};
    runs[0].scale = runs[1].scale = load_half(block);
  }
};

struct Iq4Nl : Block32 {
  static constexpr int kBytes = 18;
  static constexpr bool kAffine = false;
  static constexpr int kBias = 128;
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    decode_iq4(load_codes<2>(block + 2 + 8 * unit), load_half(block), runs);
  }
};

struct Iq4Xs {
  static constexpr int kElements = 256, kBytes = 136, kSecond = 16;
  static constexpr bool kAffine = false;
  static constexpr bool kOneScale = true;
  static constexpr int kBias = 128;
  static constexpr int kUnitsPerScale = 2;
  __device__ static constexpr int first(int unit) { return 32 * (unit >> 1) + 8 * (unit & 1); }
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    const int group = unit >> 1;
    const std::uint32_t upper = load_short(block + 2);
    const std::uint32_t lower = load_word<kAlign>(block + 4);
    const std::uint32_t bits = (lower >> 4 * group & 0x0FU) | (upper >> 2 * group & 0x03U) << 4;
    const float scale =
        __fmul_rn(load_half(block), static_cast<float>(static_cast<int>(bits) - 32));
    decode_iq4(load_codes<kAlign>(block + 8 + 8 * unit), scale, runs);
  }
};

// Two-bit formats: unit = half (1 bit), pair of shifts (1), eight bytes of 32 (2).
struct TwoBits {
  static constexpr int kElements = 256, kSecond = 32;
  static constexpr int kUnitsPerScale = 2;
  __device__ static constexpr int first(int unit) {
    return 128 * (unit >> 3) + 64 * (unit >> 2 & 1) + 8 * (unit & 3);
  }
  __device__ static int group(int unit, int run) {  // of 16 elements
    return 8 * (unit >> 3) + 4 * (unit >> 2 & 1) + 2 * run + (unit >> 1 & 1);
  }
};

struct Q2K : TwoBits {
  static constexpr int kBytes = 84;
  static constexpr bool kAffine = true;
  static constexpr int kBias = 0;
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    constexpr int kWord = kAlign < 4 ? kAlign : 4;
    const Codes q = load_codes<kWord>(block + 16 + 32 * (unit >> 3) + 8 * (unit & 3));
    const float d = load_half(block + 80);
    const float d_minimum = load_half(block + 82);
    const int shift = 4 * (unit >> 2 & 1);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      runs[run].codes = bits(q, shift + 2 * run, 0x03030303U);
      const auto packed = static_cast<int>(block[group(unit, run)]);
      runs[run].scale = __fmul_rn(d, static_cast<float>(packed & 15));
      runs[run].offset = -__fmul_rn(d_minimum, static_cast<float>(packed >> 4));
    }
  }
};

struct Q3K : TwoBits {
  static constexpr int kBytes = 110;
  static constexpr bool kAffine = false;
  static constexpr int kBias = 4;
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    const int half = unit >> 3;
    const int pair = unit >> 2 & 1;
    const Codes high = load_codes<2>(block + 8 * (unit & 3));
    const Codes q = load_codes<2>(block + 32 + 32 * half + 8 * (unit & 3));
    const float d = load_half(block + 108);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int j = 2 * pair + run;
      const Codes third = bits(high, 4 * half + j, 0x01010101U);
      runs[run].codes = join(bits(q, 2 * j, 0x03030303U), third, 2);
      const int s = group(unit, run);
      const auto lower = static_cast<int>(block[96 + s % 8] >> 4 * (s / 8) & 15);
      const auto upper = static_cast<int>(block[104 + s % 4] >> 2 * (s / 4) & 3);
      runs[run].scale = __fmul_rn(d, static_cast<float>((lower | upper << 4) - 32));
    }
  }
};

// Q4_K and Q5_K: unit = 64 elements (2 bits), eight bytes of 32 (2).
struct SixBitScales {
  static constexpr int kElements = 256, kSecond = 32;
  static constexpr bool kAffine = true;
  static constexpr int kBias = 0;
  static constexpr int kUnitsPerScale = 4;
  __device__ static constexpr int first(int unit) { return 64 * (unit >> 2) + 8 * (unit & 3); }

  // What a block's units share: bytes for its eight groups.
  struct Header {
    std::uint32_t scales[2], minima[2];
    float d, d_minimum;
  };

  template <int kAlign, class P>
  __device__ static Header header(P block) {
    constexpr std::uint32_t kSix = 0x3F3F3F3FU;
    constexpr std::uint32_t kNibble = 0x0F0F0F0FU;
    constexpr std::uint32_t kPair = 0x03030303U;
    std::uint32_t words[4];
    if constexpr (kAlign >= 16) {
      const uint4 all = load_four_words(block);
      words[0] = all.x, words[1] = all.y, words[2] = all.z, words[3] = all.w;
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) words[i] = load_word<kAlign>(block + 4 * i);
    }
    const float2 halves = __half22float2(*reinterpret_cast<const __half2*>(words));
    const std::uint32_t a = words[1];
    const std::uint32_t b = words[2];
    const std::uint32_t c = words[3];
    return {{a & kSix, (c & kNibble) | (a >> 6 & kPair) << 4},
            {b & kSix, (c >> 4 & kNibble) | (b >> 6 & kPair) << 4},
            halves.x,
            halves.y};
  }

  __device__ static void scales(const Header& header, int unit, IntegerRun (&runs)[2]) {
    const unsigned byte = 2U * (static_cast<unsigned>(unit) >> 2 & 1U);
    runs[0].scale = byte_of(header.scales[unit >> 3], byte);
    runs[1].scale = byte_of(header.scales[unit >> 3], byte + 1);
  }

  __device__ static void scales(const Header& header, int unit, Run (&runs)[2]) {
    const std::uint32_t scales = header.scales[unit >> 3];
    const std::uint32_t minima = header.minima[unit >> 3];
#pragma unroll
    for (unsigned run = 0; run < 2; ++run) {
      const unsigned byte = 2U * (static_cast<unsigned>(unit) >> 2 & 1U) + run;
      runs[run].scale = __fmul_rn(header.d, byte_to_float(scales, byte));
      runs[run].offset = -__fmul_rn(header.d_minimum, byte_to_float(minima, byte));
    }
  }
};

struct Q4K : SixBitScales {
  static constexpr int kBytes = 144;
  static constexpr int kSecondFactor = 16;
  __device__ static float factor(const Header& header) { return 0.0625F * header.d; }
  // Bytes without a sign: what is in the upper nibble stays there.
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, const Header& header, IntegerRun (&runs)[2]) {
    const Codes q = load_codes<kAlign>(block + 16 + 8 * unit);
    runs[0].codes = low_nibbles(q);
    runs[1].codes = {q.low & 0xF0F0F0F0U, q.high & 0xF0F0F0F0U};
    scales(header, unit, runs);
  }
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, const Header& header, Run (&runs)[2]) {
    const Codes q = load_codes<kAlign>(block + 16 + 8 * unit);
    runs[0].codes = low_nibbles(q);
    runs[1].codes = high_nibbles(q);
    scales(header, unit, runs);
  }
};

struct Q5K : SixBitScales {
  static constexpr int kBytes = 176;
  static constexpr int kSecondFactor = 1;
  __device__ static float factor(const Header& header) { return header.d; }
  template <int kAlign, class P, class AnyRun>
  __device__ static void decode(P block, int unit, const Header& header, AnyRun (&runs)[2]) {
    const int shift = 2 * (unit >> 2);
    const Codes fifth = load_codes<kAlign>(block + 16 + 8 * (unit & 3));
    const Codes q = load_codes<kAlign>(block + 48 + 8 * unit);
    runs[0].codes = join(low_nibbles(q), bits(fifth, shift, 0x01010101U), 4);
    runs[1].codes = join(high_nibbles(q), bits(fifth, shift + 1, 0x01010101U), 4);
    scales(header, unit, runs);
  }
};

// unit = half (1 bit), run 0 or 1 of four (1), eight bytes of 32 (2); the second run is two on.
struct Q6K {
  static constexpr int kElements = 256, kBytes = 210, kSecond = 64;
  static constexpr bool kAffine = false;
  static constexpr int kBias = 32;
  static constexpr int kUnitsPerScale = 2;
  __device__ static constexpr int first(int unit) {
    return 128 * (unit >> 3) + 32 * (unit >> 2 & 1) + 8 * (unit & 3);
  }

  struct Header {
    std::uint32_t scales[4];  // of sixteen groups
    float d;
  };

  template <int kAlign, class P>
  __device__ static Header header(P block) {
    const Codes first = load_codes<kAlign>(block + 192);
    const Codes second = load_codes<kAlign>(block + 200);
    return {{first.low, first.high, second.low, second.high}, load_half(block + 208)};
  }

  __device__ static void scale(const Header& header, int word, unsigned byte, Run& run) {
    const std::uint32_t biased = header.scales[word] ^ 0x80808080U;
    run.scale = __fmul_rn(header.d, byte_to_float<128>(biased, byte));
  }
  __device__ static void scale(const Header& header, int word, unsigned byte, IntegerRun& run) {
    run.scale = signed_byte_of(header.scales[word], byte);
  }

  // Quarters of a code less its bias: six bits at the top of a signed byte.
  static constexpr int kSecondFactor = 1;
  __device__ static float factor(const Header& header) { return 0.25F * header.d; }
  __device__ static std::uint32_t quarters(std::uint32_t q, std::uint32_t upper, int run, int r) {
    const std::uint32_t low = run == 0 ? q << 2 : q >> 2;
    return (low & 0x3C3C3C3CU) | (upper << (6 - 2 * r) & 0xC0C0C0C0U);
  }
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, const Header& header, IntegerRun (&runs)[2]) {
    const Bytes<kAlign> bytes(block, unit);
    // 32 less is the upper bit of two turned round, as a sign: once for all runs, though a compiler
    // would rather do it for each.
    Codes upper = {bytes.upper.low ^ 0xAAAAAAAAU, bytes.upper.high ^ 0xAAAAAAAAU};
    asm("" : "+r"(upper.low), "+r"(upper.high));
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int r = bytes.p + 2 * run;
      runs[run].codes = {quarters(bytes.q.low, upper.low, run, r),
                         quarters(bytes.q.high, upper.high, run, r)};
      scale(header, 2 * bytes.half + run, bytes.of_scale, runs[run]);
    }
  }
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, const Header& header, Run (&runs)[2]) {
    const Bytes<kAlign> bytes(block, unit);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const Codes nibbles = run == 0 ? low_nibbles(bytes.q) : high_nibbles(bytes.q);
      const int r = bytes.p + 2 * run;
      runs[run].codes = join(nibbles, bits(bytes.upper, 2 * r, 0x03030303U), 4);
      scale(header, 2 * bytes.half + run, bytes.of_scale, runs[run]);
    }
  }

 private:
  template <int kAlign>
  struct Bytes {
    int half, p;
    unsigned of_scale;
    Codes q, upper;
    template <class P>
    __device__ Bytes(const P& block, int unit)
        : half(unit >> 3),
          p(unit >> 2 & 1),
          of_scale(2U * static_cast<unsigned>(p) + (static_cast<unsigned>(unit) >> 1 & 1U)),
          q(load_codes<kAlign>(block + 8 * unit)),
          upper(load_codes<kAlign>(block + 128 + 32 * half + 8 * (unit & 3))) {}
  };
};

/// scale * (code - kBias) + offset with the roundings of the formats' definition. Fused, since the
/// product is exact where there is an offset: a scale has at most 17 bits, half times six, and a
/// code five.
template <class Format>
__device__ inline void values(const Run& run, float (&out)[8]) {
  to_floats<Format::kBias>(run.codes, out);
#pragma unroll
  for (float& v : out) {
    v = Format::kAffine ? __fmaf_rn(run.scale, v, run.offset) : __fmul_rn(run.scale, v);
  }
}

/// What the address of a block is certain to be a multiple of, as the kAlign of decode(): where the
/// first one is, and where it is only even.
template <class Format>
constexpr int kBlockAlignment = Format::kBytes % 16 == 0  ? 16
                                : Format::kBytes % 8 == 0 ? 8
                                : Format::kBytes % 4 == 0 ? 4
                                : Format::kBytes % 2 == 0 ? 2
                                                          : 1;
template <class Format>
constexpr int kLeastAlignment = kBlockAlignment<Format> < 2 ? 1 : 2;

}  // namespace tensor_pager::kernels::cuda
