// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu/formats.hpp"
#include "cpu/rounded_block.hpp"

// The storage formats again (formats.hpp describes their bits), now as what integer products need
// of 256 weights: unpack() hands the codes of each group of 32 to emit(Constant<group>, even, odd),
// 16-bit words of the weights of even and odd index; scales() gives the factor of each group.
//   weight = scale * (code - kBias) + offset
// A bias that is left to the sums of the inputs saves subtracting it from every code. Formats with
// a scale for each 16 weights (kHalves) have those of the groups' first halves and of their second.

namespace tensor_pager::kernels::cpu {
namespace {

template <std::size_t kValue>
struct Constant {
  static constexpr std::size_t value = kValue;
};

template <std::size_t... kIndices>
struct Indices {};

template <std::size_t kCount, std::size_t... kIndices>
struct MakeIndices : MakeIndices<kCount - 1, kCount - 1, kIndices...> {};
template <std::size_t... kIndices>
struct MakeIndices<0, kIndices...> {
  using Type = Indices<kIndices...>;
};

template <class Body, std::size_t... kIndices>
TENSOR_PAGER_INLINE void for_each_of(Body body, Indices<kIndices...> /*indices*/) {
  (body(Constant<kIndices>{}), ...);
}

/// body(Constant<0>) to body(Constant<kCount - 1>), unrolled in every build.
template <std::size_t kCount, class Body>
TENSOR_PAGER_INLINE void for_each(Body body) {
  for_each_of(body, typename MakeIndices<kCount>::Type{});
}
#define TENSOR_PAGER_INLINE_LAMBDA __attribute__((always_inline))

// [0] is all that formats with one scale for each 32 weights have.
struct GroupScales {
  __m256 scale[2];
  __m256 offset[2];
};

TENSOR_PAGER_INLINE __m256i load256(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
TENSOR_PAGER_INLINE __m256 scaled(float factor, __m256i integers) {
  return _mm256_mul_ps(_mm256_set1_ps(factor), _mm256_cvtepi32_ps(integers));
}
TENSOR_PAGER_INLINE __m256i bit_and256(__m256i a, int bytes) {
  return _mm256_and_si256(a, _mm256_set1_epi8(static_cast<char>(bytes)));
}

template <class Group, class Emit>
TENSOR_PAGER_INLINE void emit_unsigned(Emit emit, Group group, __m256i bytes) {
  emit(group, _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16(bytes, 8));
}
template <class Group, class Emit>
TENSOR_PAGER_INLINE void emit_signed(Emit emit, Group group, __m256i bytes) {
  emit(group, _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8));
}

// 32 nibbles of 16 bytes: the low ones, then the high ones.
TENSOR_PAGER_INLINE __m256i nibbles(const std::uint8_t* p) {
  const __m128i q = load_codes(p);
  return bit_and256(_mm256_set_m128i(_mm_srli_epi16(q, 4), q), 0x0F);
}

// Byte i is `value` where bit i is set.
TENSOR_PAGER_INLINE __m256i where_bit256(std::uint32_t bits, int value) {
  const __m256i spread = _mm256_shuffle_epi8(
      _mm256_set1_epi32(static_cast<int>(bits)),
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ULL));
  return bit_and256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit), value);
}

TENSOR_PAGER_INLINE __m256i iq4_values256(__m256i index) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(iq4_values()), index);
}

// The halves at the beginning of eight blocks.
template <std::size_t kBytes>
TENSOR_PAGER_INLINE __m256 block_halves(const std::uint8_t* blocks) {
  std::uint16_t halves[8];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; ++i) halves[i] = word_at<std::uint16_t>(blocks + i * kBytes);
  __m128i v;
  std::memcpy(&v, halves, sizeof v);
  return _mm256_cvtph_ps(v);
}

struct IntegerQ4_0 {
  static constexpr std::size_t kElements = 32, kBytes = 18;
  static constexpr int kBias = 8;
  static constexpr bool kHalves = false, kOffset = false;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* blocks, Emit emit) {
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      emit_unsigned(emit, group, nibbles(blocks + group.value * kBytes + 2));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {}};
  }
};

struct IntegerQ4_1 {
  static constexpr std::size_t kElements = 32, kBytes = 20;
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = true;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* blocks, Emit emit) {
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      emit_unsigned(emit, group, nibbles(blocks + group.value * kBytes + 4));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {block_halves<kBytes>(blocks + 2)}};
  }
};

struct IntegerQ5_0 {
  static constexpr std::size_t kElements = 32, kBytes = 22;
  static constexpr int kBias = 16;
  static constexpr bool kHalves = false, kOffset = false;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* blocks, Emit emit) {
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      const std::uint8_t* block = blocks + group.value * kBytes;
      const __m256i fifth = where_bit256(word_at<std::uint32_t>(block + 2), 16);
      emit_unsigned(emit, group, _mm256_or_si256(nibbles(block + 6), fifth));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {}};
  }
};

struct IntegerQ5_1 {
  static constexpr std::size_t kElements = 32, kBytes = 24;
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = true;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* blocks, Emit emit) {
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      const std::uint8_t* block = blocks + group.value * kBytes;
      const __m256i fifth = where_bit256(word_at<std::uint32_t>(block + 4), 16);
      emit_unsigned(emit, group, _mm256_or_si256(nibbles(block + 8), fifth));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {block_halves<kBytes>(blocks + 2)}};
  }
};

struct IntegerQ8_0 {
  static constexpr std::size_t kElements = 32, kBytes = 34;
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = false;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* blocks, Emit emit) {
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      emit_signed(emit, group, load256(blocks + group.value * kBytes + 2));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {}};
  }
};

struct IntegerQ2K {
  static constexpr std::size_t kElements = 256, kBytes = 84;
  static constexpr int kBias = 0;
  static constexpr bool kHalves = true, kOffset = true;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* block, Emit emit) {
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      const __m256i q = load256(block + 16 + 32 * (group.value / 4));
      emit_unsigned(emit, group, bit_and256(_mm256_srli_epi16(q, 2 * (group.value % 4)), 0x03));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* block) {
    const __m128i packed = load_codes(block);
    const float d = half_at(block + 80);
    const float minus_minimum = -half_at(block + 82);
    return {{nibble<0>(packed, d), nibble<8>(packed, d)},
            {nibble<4>(packed, minus_minimum), nibble<12>(packed, minus_minimum)}};
  }
  template <int kBit>
  TENSOR_PAGER_INLINE static __m256 nibble(__m128i words, float factor) {
    const __m128i low = _mm_and_si128(_mm_srli_epi16(words, kBit), _mm_set1_epi16(0x0F));
    return scaled(factor, _mm256_cvtepu16_epi32(low));
  }
};

// Sixteen signed bytes: those of even and those of odd index.
TENSOR_PAGER_INLINE GroupScales halves_of_bytes(__m128i bytes, float factor) {
  const __m128i even = _mm_srai_epi16(_mm_slli_epi16(bytes, 8), 8);
  const __m128i odd = _mm_srai_epi16(bytes, 8);
  return {{scaled(factor, _mm256_cvtepi16_epi32(even)), scaled(factor, _mm256_cvtepi16_epi32(odd))},
          {}};
}

struct IntegerQ3K {
  static constexpr std::size_t kElements = 256, kBytes = 110;
  static constexpr int kBias = 4;
  static constexpr bool kHalves = true, kOffset = false;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* block, Emit emit) {
    const __m256i high = load256(block);
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      constexpr int kGroup = static_cast<int>(decltype(group)::value);
      const __m256i q = load256(block + 32 + 32 * (kGroup / 4));
      const __m256i pair = bit_and256(_mm256_srli_epi16(q, 2 * (kGroup % 4)), 0x03);
      const __m256i third =
          kGroup < 2 ? _mm256_slli_epi16(high, 2 - kGroup) : _mm256_srli_epi16(high, kGroup - 2);
      emit_unsigned(emit, group, _mm256_or_si256(pair, bit_and256(third, 0x04)));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* block) {
    return halves_of_bytes(subtract(Q3K::scale_bits(block + 96), codes(32)), half_at(block + 108));
  }
};

// The scales and minima that KScales describes.
TENSOR_PAGER_INLINE GroupScales k_scales(const std::uint8_t* block) {
  const auto a = word_at<std::uint32_t>(block + 4);
  const auto b = word_at<std::uint32_t>(block + 8);
  const auto c = word_at<std::uint32_t>(block + 12);
  constexpr std::uint32_t kSix = 0x3F3F3F3F;
  constexpr std::uint32_t kNibble = 0x0F0F0F0F;
  constexpr std::uint32_t kPair = 0x03030303;
  const std::uint64_t scale =
      (a & kSix) | static_cast<std::uint64_t>((c & kNibble) | (a >> 6 & kPair) << 4) << 32;
  const std::uint64_t minimum =
      (b & kSix) | static_cast<std::uint64_t>((c >> 4 & kNibble) | (b >> 6 & kPair) << 4) << 32;
  const auto bytes = [](std::uint64_t word) TENSOR_PAGER_INLINE_LAMBDA {
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(word)));
  };
  return {{scaled(half_at(block), bytes(scale))}, {scaled(-half_at(block + 2), bytes(minimum))}};
}

struct IntegerQ4K {
  static constexpr std::size_t kElements = 256, kBytes = 144;
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = true;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* block, Emit emit) {
    const __m256i nibble = _mm256_set1_epi16(0x0F);
    for_each<4>([&](auto run) TENSOR_PAGER_INLINE_LAMBDA {
      constexpr std::size_t kRun = decltype(run)::value;
      const __m256i q = load256(block + 16 + 32 * kRun);
      emit(Constant<2 * kRun>{}, _mm256_and_si256(q, nibble),
           _mm256_and_si256(_mm256_srli_epi16(q, 8), nibble));
      emit(Constant<2 * kRun + 1>{}, _mm256_and_si256(_mm256_srli_epi16(q, 4), nibble),
           _mm256_srli_epi16(q, 12));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* block) {
    return k_scales(block);
  }
};

struct IntegerQ5K {
  static constexpr std::size_t kElements = 256, kBytes = 176;
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = true;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* block, Emit emit) {
    const __m256i fifths = load256(block + 16);
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      constexpr int kGroup = static_cast<int>(decltype(group)::value);
      const __m256i q = load256(block + 48 + 32 * (kGroup / 2));
      const __m256i low = bit_and256(kGroup % 2 == 0 ? q : _mm256_srli_epi16(q, 4), 0x0F);
      const __m256i fifth = kGroup < 4 ? _mm256_slli_epi16(fifths, 4 - kGroup)
                                       : _mm256_srli_epi16(fifths, kGroup - 4);
      emit_unsigned(emit, group, _mm256_or_si256(low, bit_and256(fifth, 0x10)));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* block) {
    return k_scales(block);
  }
};

struct IntegerQ6K {
  static constexpr std::size_t kElements = 256, kBytes = 210;
  static constexpr int kBias = 32;
  static constexpr bool kHalves = true, kOffset = false;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* block, Emit emit) {
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      constexpr std::size_t kHalf = decltype(group)::value / 4;
      constexpr int kRun = static_cast<int>(decltype(group)::value % 4);
      const __m256i q = load256(block + 64 * kHalf + 32 * (kRun % 2));
      const __m256i low = bit_and256(kRun < 2 ? q : _mm256_srli_epi16(q, 4), 0x0F);
      const __m256i upper = load256(block + 128 + 32 * kHalf);
      const __m256i pair = kRun < 2 ? _mm256_slli_epi16(upper, 4 - 2 * kRun)
                                    : _mm256_srli_epi16(upper, 2 * kRun - 4);
      emit_unsigned(emit, group, _mm256_or_si256(low, bit_and256(pair, 0x30)));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* block) {
    return halves_of_bytes(load_codes(block + 192), half_at(block + 208));
  }
};

struct IntegerIq4Nl {
  static constexpr std::size_t kElements = 32, kBytes = 18;
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = false;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* blocks, Emit emit) {
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      emit_signed(emit, group, iq4_values256(nibbles(blocks + group.value * kBytes + 2)));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {}};
  }
};

struct IntegerIq4Xs {
  static constexpr std::size_t kElements = 256, kBytes = 136;
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = false;
  template <class Emit>
  TENSOR_PAGER_INLINE static void unpack(const std::uint8_t* block, Emit emit) {
    for_each<8>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
      emit_signed(emit, group, iq4_values256(nibbles(block + 8 + 16 * group.value)));
    });
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* block) {
    const auto field = [](std::uint32_t word, __m256i shifts, int mask) TENSOR_PAGER_INLINE_LAMBDA {
      const __m256i shifted = _mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(word)), shifts);
      return _mm256_and_si256(shifted, _mm256_set1_epi32(mask));
    };
    const __m256i lower = field(word_at<std::uint32_t>(block + 4),
                                _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28), 0x0F);
    const __m256i upper = field(word_at<std::uint16_t>(block + 2),
                                _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14), 0x03);
    const __m256i bits = _mm256_or_si256(lower, _mm256_slli_epi32(upper, 4));
    return {{scaled(half_at(block), _mm256_sub_epi32(bits, _mm256_set1_epi32(32)))}, {}};
  }
};

}  // namespace
}  // namespace tensor_pager::kernels::cpu
