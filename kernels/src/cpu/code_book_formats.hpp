// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/code_book_entries.hpp"
#include "cpu/formats.hpp"

// The formats IQ1 to IQ3, whose codes are indices of code book entries: eight elements at once, or
// four in IQ3. Their scales are odd multiples of a fraction of the block's d. All products are
// exact in float32, so it does not matter how they are associated.

namespace tensor_pager::kernels::cpu {
namespace {

// d * (2 n + 1): the scale of a group.
TENSOR_PAGER_INLINE float odd_multiple(float d, std::uint32_t n) {
  return d * static_cast<float>(2 * n + 1);
}

// The same for 16 of them, in the nibbles of eight bytes: out[i] for the low nibble of byte i,
// out[8 + i] for the high one.
TENSOR_PAGER_INLINE void odd_multiples(float* out, float d, std::uint64_t nibbles) {
  const Codes n = low_nibbles(join(nibbles, nibbles >> 4));
  scale_codes(out, bit_or(shift_left(n, 1), codes(1)), d);
}

// The signs of 16 elements as factors: seven bits for each eight, whose last sign makes them even.
TENSOR_PAGER_INLINE Codes even_signs(std::uint32_t first, std::uint32_t second) {
  return join(kEvenSigns.words[first & 127], kEvenSigns.words[second & 127]);
}

// The same for eight bits each.
TENSOR_PAGER_INLINE Codes signs(const std::uint8_t* bytes) {
  return join(kSigns.words[bytes[0]], kSigns.words[bytes[1]]);
}

// half d; for each 32 elements four bytes of indices, and a word of four times seven sign bits and,
// at the top, four bits of scale, which is an odd multiple of d / 8.
struct Iq2Xxs {
  static constexpr std::size_t kElements = 256, kBytes = 66;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block) * 0.125F;
    for (std::size_t group = 0; group < 8; ++group) {
      const std::uint8_t* index = block + 2 + 8 * group;
      const auto word = word_at<std::uint32_t>(index + 4);
      const float scale = odd_multiple(d, word >> 28);
      const auto& book = kIq2XxsEntries.words;
      const Codes low = join(book[index[0]], book[index[1]]);
      const Codes high = join(book[index[2]], book[index[3]]);
      emit_scaled(emit, 32 * group, with_signs(low, even_signs(word, word >> 7)), scale);
      emit_scaled(emit, 32 * group + 16, with_signs(high, even_signs(word >> 14, word >> 21)),
                  scale);
    }
  }
};

// half d; for each eight elements nine bits of index and seven signs; for each 16 four bits of
// scale, the even ones low, which is an odd multiple of d / 8.
struct Iq2Xs {
  static constexpr std::size_t kElements = 256, kBytes = 74;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    alignas(64) float scales[16];
    odd_multiples(scales, half_at(block) * 0.125F, word_at<std::uint64_t>(block + 66));
#pragma GCC unroll 16
    for (std::size_t group = 0; group < 16; ++group) {
      const auto pair = word_at<std::uint32_t>(block + 2 + 4 * group);
      const auto& book = kIq2XsEntries.words;
      const Codes entries = join(book[pair & 511], book[pair >> 16 & 511]);
      emit_scaled(emit, 16 * group, with_signs(entries, even_signs(pair >> 9, pair >> 25)),
                  scales[group / 2 + 8 * (group % 2)]);
    }
  }
};

// half d; 32 low bytes of indices; 32 bytes of signs; eight bytes with the upper two bits of the
// indices, four in each; scales as IQ2_XS.
struct Iq2S {
  static constexpr std::size_t kElements = 256, kBytes = 82;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    alignas(64) float scales[16];
    odd_multiples(scales, half_at(block) * 0.125F, word_at<std::uint64_t>(block + 74));
#pragma GCC unroll 16
    for (std::size_t group = 0; group < 16; ++group) {
      const std::uint8_t* lower = block + 2 + 2 * group;
      const std::uint32_t upper =
          static_cast<std::uint32_t>(block[66 + group / 2]) << 8 >> 4 * (group % 2);
      const auto& book = kIq2SEntries.words;
      const Codes entries =
          join(book[lower[0] | (upper & 0x300)], book[lower[1] | (upper >> 2 & 0x300)]);
      emit_scaled(emit, 16 * group, with_signs(entries, signs(block + 34 + 2 * group)),
                  scales[group / 2 + 8 * (group % 2)]);
    }
  }
};

// half d; 64 bytes of indices, four elements each; for each 32 elements a word as in IQ2_XXS, its
// scale an odd multiple of d / 4.
struct Iq3Xxs {
  static constexpr std::size_t kElements = 256, kBytes = 98;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block) * 0.25F;
    for (std::size_t group = 0; group < 8; ++group) {
      const auto word = word_at<std::uint32_t>(block + 66 + 4 * group);
      const float scale = odd_multiple(d, word >> 28);
      const std::uint8_t* index = block + 2 + 8 * group;
      emit_scaled(emit, 32 * group, with_signs(entries(index), even_signs(word, word >> 7)), scale);
      emit_scaled(emit, 32 * group + 16,
                  with_signs(entries(index + 4), even_signs(word >> 14, word >> 21)), scale);
    }
  }

  TENSOR_PAGER_INLINE static Codes entries(const std::uint8_t* index) {
    const auto& book = kIq3XxsEntries.words;
    return join(book[index[0]], book[index[1]], book[index[2]], book[index[3]]);
  }
};

// half d; 64 low bytes of indices, four elements each; eight bytes of their upper bits; 32 bytes of
// signs; for each 32 elements four bits of scale, the even ones low: an odd multiple of d.
struct Iq3S {
  static constexpr std::size_t kElements = 256, kBytes = 110;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    alignas(64) float scales[16];
    const std::uint64_t nibbles = word_at<std::uint32_t>(block + 106);
    odd_multiples(scales, half_at(block), nibbles);
#pragma GCC unroll 2
    for (std::size_t group = 0; group < 8; ++group) {
      const std::uint8_t* lower = block + 2 + 8 * group;
      const std::uint32_t upper = static_cast<std::uint32_t>(block[66 + group]) << 8;
      const std::uint8_t* sign_bits = block + 74 + 4 * group;
      const float scale = scales[group / 2 + 8 * (group % 2)];
      const Codes low = entries(lower, upper);
      const Codes high = entries(lower + 4, upper >> 4);
      emit_scaled(emit, 32 * group, with_signs(low, signs(sign_bits)), scale);
      emit_scaled(emit, 32 * group + 16, with_signs(high, signs(sign_bits + 2)), scale);
    }
  }

  TENSOR_PAGER_INLINE static Codes entries(const std::uint8_t* lower, std::uint32_t upper) {
    const auto& book = kIq3SEntries.words;
    return join(book[lower[0] | (upper & 256)], book[lower[1] | (upper >> 1 & 256)],
                book[lower[2] | (upper >> 2 & 256)], book[lower[3] | (upper >> 3 & 256)]);
  }
};

// Two entries of IQ1, in eighths. `down` has bit 0 or 8 set where an eighth is to be taken from the
// first or second eight elements; to the others it is added.
TENSOR_PAGER_INLINE Codes iq1_codes(std::uint32_t first, std::uint32_t second, std::uint32_t down) {
  constexpr std::uint64_t kOnes = 0x0101010101010101U;
  const auto& book = kIq1Entries.words;
  // Subtracted: 1, or 255 as the negative of 1.
  const std::uint64_t a = (down & 1) != 0 ? kOnes : ~std::uint64_t{0};
  const std::uint64_t b = (down & 256) != 0 ? kOnes : ~std::uint64_t{0};
  return subtract(join(book[first], book[second]), join(a, b));
}

// half d; 32 low bytes of indices; for each 32 elements 16 bits: four times the upper three bits,
// three bits of scale, an odd multiple of d, and whether an eighth is taken or added.
struct Iq1S {
  static constexpr std::size_t kElements = 256, kBytes = 50;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const float d = half_at(block) * 0.125F;
    for (std::size_t group = 0; group < 8; ++group) {
      const std::uint8_t* lower = block + 2 + 4 * group;
      const std::uint32_t upper = word_at<std::uint16_t>(block + 34 + 2 * group);
      const float scale = odd_multiple(d, upper >> 12 & 7);
      const std::uint32_t down = (upper >> 15) * 257;
      const Codes low =
          iq1_codes(lower[0] | (upper << 8 & 0x700), lower[1] | (upper << 5 & 0x700), down);
      const Codes high =
          iq1_codes(lower[2] | (upper << 2 & 0x700), lower[3] | (upper >> 1 & 0x700), down);
      emit_scaled(emit, 32 * group, low, scale);
      emit_scaled(emit, 32 * group + 16, high, scale);
    }
  }
};

// 32 low bytes of indices; for each eight elements four bits: the upper three and whether an eighth
// is taken or added; four 16-bit words, each with four times three bits of scale, one for 16
// elements, and at the top four bits of the half d, the lowest first.
struct Iq1M {
  static constexpr std::size_t kElements = 256, kBytes = 56;
  template <class Emit>
  TENSOR_PAGER_INLINE static void decode(const std::uint8_t* block, Emit emit) {
    const auto scales = word_at<std::uint64_t>(block + 48);
    const auto half = static_cast<std::uint16_t>((scales >> 12 & 0x000F) | (scales >> 24 & 0x00F0) |
                                                 (scales >> 36 & 0x0F00) | (scales >> 48 & 0xF000));
    const float d = half_to_float(half) * 0.125F;
#pragma GCC unroll 4
    for (std::size_t group = 0; group < 16; ++group) {
      const std::uint8_t* lower = block + 2 * group;
      const std::uint32_t upper = block[32 + group];
      const std::uint64_t n = scales >> (16 * (group / 4) + 3 * (group % 4)) & 7;
      const Codes c = iq1_codes(lower[0] | (upper << 8 & 0x700), lower[1] | (upper << 4 & 0x700),
                                (upper >> 3 & 1) | (upper << 1 & 256));
      emit_scaled(emit, 16 * group, c, odd_multiple(d, static_cast<std::uint32_t>(n)));
    }
  }
};

}  // namespace
}  // namespace tensor_pager::kernels::cpu
