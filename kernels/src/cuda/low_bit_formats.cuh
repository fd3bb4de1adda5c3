// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "code_books.hpp"
#include "cuda/formats.cuh"

// The formats of src/cpu/code_book_formats.hpp and fp4_and_ternary_formats.hpp.

namespace tensor_pager::kernels::cuda {

/// A code book as a block of threads keeps it in shared memory. Eight elements are a word of eight
/// nibbles that select bytes: entries (two for IQ3), whose nibbles are digits, joined with the word
/// of their pattern of sign bits.
template <class Entry, unsigned kEntries, unsigned kSigns>
struct alignas(16) CodeBook {
  Entry entries[kEntries];
  std::uint32_t signs[kSigns];
};

namespace books {

template <class Entry, std::size_t kEntries>
constexpr void spread_digits(const std::array<std::uint16_t, kEntries>& from,
                             Entry (&to)[kEntries]) {
  constexpr unsigned kDigits = 2 * sizeof(Entry);
  constexpr unsigned kBits = 16 / kDigits;
  for (std::size_t i = 0; i < kEntries; ++i) {
    to[i] = 0;
    for (unsigned e = 0; e < kDigits; ++e) {
      const unsigned digit = from[i] >> kBits * e & ((1U << kBits) - 1);
      to[i] = static_cast<Entry>(to[i] | digit << 4 * e);
    }
  }
}

/// `negative` and `positive` are the nibbles for signs. With 128 patterns, seven bits are given and
/// the eighth makes their number even.
template <class Entry, unsigned kSigns, std::size_t kEntries>
constexpr CodeBook<Entry, kEntries, kSigns> make(const std::array<std::uint16_t, kEntries>& from,
                                                 unsigned negative, unsigned positive = 0) {
  CodeBook<Entry, kEntries, kSigns> made{};
  spread_digits(from, made.entries);
  for (unsigned i = 0; i < kSigns; ++i) {
    unsigned count = 0;
    for (unsigned e = 0; e < 8; ++e) {
      const unsigned sign = e == 7 && kSigns == 128 ? count & 1U : i >> e & 1U;
      count += sign;
      made.signs[i] |= (sign != 0 ? negative : positive) << 4 * e;
    }
  }
  return made;
}

__device__ constexpr auto kIq2Xxs = make<std::uint32_t, 128>(kIq2XxsBook, 4);
__device__ constexpr auto kIq2Xs = make<std::uint32_t, 128>(kIq2XsBook, 4);
__device__ constexpr auto kIq2S = make<std::uint32_t, 256>(kIq2SBook, 4);
__device__ constexpr auto kIq3Xxs = make<std::uint16_t, 128>(kIq3XxsBook, 8);
__device__ constexpr auto kIq3S = make<std::uint16_t, 256>(kIq3SBook, 7, 8);
__device__ constexpr auto kIq1 = make<std::uint32_t, 4>(kIq1Book, 4);

}  // namespace books

// d * (2 n + 1), exact.
__device__ inline float odd_multiple(float d, std::uint32_t n) {
  return __fmul_rn(d, static_cast<float>(2 * n + 1));
}

// A unit is octets j and j + 2 of the four of a group of 32 elements.
struct Octets {
  static constexpr int kElements = 256, kSecond = 16;
  static constexpr bool kAffine = false;
  static constexpr int kUnitsPerScale = 2;
  __device__ static constexpr int first(int unit) { return 32 * (unit >> 1) + 8 * (unit & 1); }
  __device__ static int group(int unit) { return unit >> 1; }
  __device__ static int octet(int unit, int run) { return (unit & 1) + 2 * run; }
};

struct Iq2 : Octets {
  static constexpr int kBias = 128;
  // Digits 8, 25 and 43, negative ones from nibble 4 on; biased by 128.
  __device__ static void decode(std::uint32_t nibbles, float scale, Run& run) {
    constexpr std::uint32_t kPositive = 0x00AB9988U;
    constexpr std::uint32_t kNegative = 0x00556778U;
    const Codes values{__byte_perm(kPositive, kNegative, nibbles),
                       __byte_perm(kPositive, kNegative, nibbles >> 16)};
    run.codes = values;
    run.scale = scale;
  }
};

struct Iq2Xxs : Iq2 {
  static constexpr bool kOneScale = true;
  static constexpr int kBytes = 66;
  __device__ static const auto& book() { return books::kIq2Xxs; }
  template <int kAlign, class Book, class P>
  __device__ static void decode(P block, int unit, const Book& book, Run (&runs)[2]) {
    const P at = block + 2 + 8 * group(unit);
    const std::uint32_t word = load_word<2>(at + 4);
    const float scale = odd_multiple(0.125F * load_half(block), word >> 28);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int j = octet(unit, run);
      const std::uint32_t signs = book.signs[word >> 7 * j & 127U];
      Iq2::decode(book.entries[at[j]] | signs, scale, runs[run]);
    }
  }
};

struct Iq2Xs : Iq2 {
  static constexpr int kBytes = 74;
  __device__ static const auto& book() { return books::kIq2Xs; }
  template <int kAlign, class Book, class P>
  __device__ static void decode(P block, int unit, const Book& book, Run (&runs)[2]) {
    const float d = 0.125F * load_half(block);
    const P indices = block + 2 + 8 * group(unit);
    const std::uint32_t scales = block[66 + group(unit)];
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const std::uint32_t index = load_short(indices + 2 * octet(unit, run));
      Iq2::decode(book.entries[index & 511U] | book.signs[index >> 9],
                  odd_multiple(d, scales >> 4 * run & 15U), runs[run]);
    }
  }
};

struct Iq2S : Iq2 {
  static constexpr int kBytes = 82;
  __device__ static const auto& book() { return books::kIq2S; }
  template <int kAlign, class Book, class P>
  __device__ static void decode(P block, int unit, const Book& book, Run (&runs)[2]) {
    const float d = 0.125F * load_half(block);
    const P lower = block + 2 + 4 * group(unit);
    const std::uint32_t upper = block[66 + group(unit)];
    const std::uint32_t scales = block[74 + group(unit)];
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int j = octet(unit, run);
      const std::uint32_t index = lower[j] | (upper >> 2 * j & 3U) << 8;
      Iq2::decode(book.entries[index] | book.signs[lower[32 + j]],
                  odd_multiple(d, scales >> 4 * run & 15U), runs[run]);
    }
  }
};

struct Iq3Xxs : Octets {
  static constexpr bool kOneScale = true;
  static constexpr int kBias = 128;
  static constexpr int kBytes = 98;
  __device__ static const auto& book() { return books::kIq3Xxs; }
  template <int kAlign, class Book, class P>
  __device__ static void decode(P block, int unit, const Book& book, Run (&runs)[2]) {
    const std::uint32_t word = load_word<2>(block + 66 + 4 * group(unit));
    const float scale = odd_multiple(0.25F * load_half(block), word >> 28);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int j = octet(unit, run);
      const P index = block + 2 + 8 * group(unit) + 2 * j;
      const std::uint32_t nibbles =
          book.entries[index[0]] | static_cast<std::uint32_t>(book.entries[index[1]]) << 16;
      const std::uint32_t selected = nibbles | book.signs[word >> 7 * j & 127U];
      // 4, 12, ... 52 and 62, then their negatives; biased by 128.
      const NibbleValues values{0x9C948C84U, 0xBEB4ACA4U, 0x646C747CU, 0x424C545CU};
      runs[run].codes = Codes{values.of_four(selected), values.of_four(selected >> 16)};
      runs[run].scale = scale;
    }
  }
};

struct Iq3S : Octets {
  static constexpr bool kOneScale = true;
  static constexpr int kBias = 15;
  static constexpr int kBytes = 110;
  __device__ static const auto& book() { return books::kIq3S; }
  template <int kAlign, class Book, class P>
  __device__ static void decode(P block, int unit, const Book& book, Run (&runs)[2]) {
    const std::uint32_t upper = block[66 + group(unit)];
    const P signs = block + 74 + 4 * group(unit);
    const std::uint32_t scales = block[106 + (group(unit) >> 1)];
    const float scale = odd_multiple(load_half(block), scales >> 4 * (group(unit) & 1) & 15U);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int j = octet(unit, run);
      const P lower = block + 2 + 8 * group(unit) + 2 * j;
      const std::uint32_t bits = upper >> 2 * j;
      const std::uint32_t first = book.entries[lower[0] | (bits & 1U) << 8];
      const std::uint32_t second = book.entries[lower[1] | (bits >> 1 & 1U) << 8];
      runs[run].codes = odd_integers((first | second << 16) ^ book.signs[signs[j]]);
      runs[run].scale = scale;
    }
  }

  // 2 n for each nibble n; biased by 15. The digits 0 to 7 of an entry stand for 1, 3, ... 15; with
  // 8 added they give these, and taken from 7 their negatives.
  __device__ static Codes odd_integers(std::uint32_t nibbles) {
    const std::uint32_t even = nibbles << 1 & 0x1E1E1E1EU;
    const std::uint32_t odd = nibbles >> 3 & 0x1E1E1E1EU;
    return {__byte_perm(even, odd, 0x5140U), __byte_perm(even, odd, 0x7362U)};
  }
};

struct Iq1 : Octets {
  static constexpr int kBias = 16;
  __device__ static const auto& book() { return books::kIq1; }
  // Eighths: digits -8, 0 and 8 with one added, or taken from nibble 4 on; biased by 16.
  __device__ static void decode(std::uint32_t digits, bool down, float scale, Run& run) {
    constexpr std::uint32_t kUp = 0x00191109U;
    constexpr std::uint32_t kDown = 0x00170F07U;
    const std::uint32_t nibbles = digits | (down ? 0x44444444U : 0U);
    const Codes values{__byte_perm(kUp, kDown, nibbles), __byte_perm(kUp, kDown, nibbles >> 16)};
    run.codes = values;
    run.scale = scale;
  }
};

struct Iq1S : Iq1 {
  static constexpr bool kOneScale = true;
  static constexpr int kBytes = 50;
  template <int kAlign, class Book, class P>
  __device__ static void decode(P block, int unit, const Book& book, Run (&runs)[2]) {
    const P lower = block + 2 + 4 * group(unit);
    const std::uint32_t upper = load_short(block + 34 + 2 * group(unit));
    const float scale = odd_multiple(0.125F * load_half(block), upper >> 12 & 7U);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int j = octet(unit, run);
      const std::uint32_t index = lower[j] | (upper >> 3 * j & 7U) << 8;
      Iq1::decode(book.entries[index], upper >> 15 != 0, scale, runs[run]);
    }
  }
};

struct Iq1M : Iq1 {
  static constexpr int kBytes = 56;
  template <int kAlign, class Book, class P>
  __device__ static void decode(P block, int unit, const Book& book, Run (&runs)[2]) {
    std::uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = load_short(block + 48 + 2 * i);
    const std::uint32_t half =
        words[0] >> 12 | (words[1] >> 12) << 4 | (words[2] >> 12) << 8 | (words[3] >> 12) << 12;
    const float d = 0.125F * __half2float(__ushort_as_half(static_cast<unsigned short>(half)));
    const P lower = block + 4 * group(unit);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int j = octet(unit, run);
      const std::uint32_t upper = block[32 + 2 * group(unit) + run] >> 4 * (unit & 1);
      const int sixteen = 2 * group(unit) + run;
      const std::uint32_t n = words[sixteen >> 2] >> 3 * (sixteen & 3) & 7U;
      Iq1::decode(book.entries[lower[j] | (upper & 7U) << 8], (upper & 8U) != 0, odd_multiple(d, n),
                  runs[run]);
    }
  }
};

// Twice the values of E2M1 floats, biased by 128.
__device__ inline NibbleValues twice_e2m1() {
  return {0x83828180U, 0x8C888684U, 0x7D7E7F80U, 0x74787A7CU};
}

struct Mxfp4 : Block32 {
  static constexpr int kBytes = 17;
  static constexpr bool kAffine = false;
  static constexpr int kBias = 128;
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    const std::uint32_t e = block[0];
    const float half_scale = __uint_as_float(e < 2U ? 0x00200000U << e : (e - 1U) << 23);
    decode_nibbles(load_codes<1>(block + 1 + 8 * unit), twice_e2m1(), half_scale, runs);
  }
};

struct Nvfp4 {
  static constexpr bool kOneScale = true;
  static constexpr int kElements = 64, kBytes = 36, kSecond = 8;
  static constexpr bool kAffine = false;
  static constexpr int kBias = 128;
  static constexpr int kUnitsPerScale = 1;
  __device__ static constexpr int first(int unit) { return 16 * unit; }
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    constexpr int kWord = kAlign < 4 ? kAlign : 4;
    decode_nibbles(load_codes<kWord>(block + 4 + 8 * unit), twice_e2m1(), half_scale(block[unit]),
                   runs);
  }

  // Half of an unsigned E4M3; bit 7 does not count, and 0x7F is zero.
  __device__ static float half_scale(std::uint32_t bits) {
    const std::uint32_t magnitude = bits & 0x7FU;
    if (bits == 0x7FU) return 0.0F;
    if (magnitude < 8U) return static_cast<float>(magnitude) * 0x1p-10F;
    return __uint_as_float((magnitude << 20) + (119U << 23));
  }
};

struct Tq1_0 {
  static constexpr bool kOneScale = true;
  static constexpr int kElements = 256, kBytes = 54, kSecond = 8;
  static constexpr bool kAffine = false;
  static constexpr int kBias = 1;
  static constexpr int kUnitsPerScale = 4;
  __device__ static constexpr int first(int unit) { return 16 * unit; }
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    const float d = load_half(block + 52);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int first = 16 * unit + 8 * run;
      runs[run].codes = {four(block, first), four(block, first + 4)};
      runs[run].scale = d;
    }
  }

  template <class P>
  __device__ static std::uint32_t four(const P& block, int first) {
    std::uint32_t word = 0;
#pragma unroll
    for (int e = 0; e < 4; ++e) word |= code(block, first + e) << 8 * e;
    return word;
  }
  template <class P>
  __device__ static std::uint32_t code(const P& block, int element) {
    if (element < 160) return digit(block[element % 32], element / 32);
    if (element < 240) return digit(block[32 + element % 16], (element - 160) / 16);
    return digit(block[48 + element % 4], (element - 240) / 4);
  }
  __device__ static std::uint32_t digit(std::uint32_t byte, int n) {
    const auto power = static_cast<std::uint32_t>(0x511B090301ULL >> 8 * n) & 255U;  // 3^n
    const std::uint32_t fraction = byte * power & 255U;
    return fraction * 3U >> 8;
  }
};

struct Tq2_0 : TwoBits {
  static constexpr bool kOneScale = true;
  static constexpr int kBytes = 66;
  static constexpr bool kAffine = false;
  static constexpr int kBias = 1;
  static constexpr int kUnitsPerScale = 4;
  template <int kAlign, class P>
  __device__ static void decode(P block, int unit, Run (&runs)[2]) {
    const Codes q = load_codes<2>(block + 32 * (unit >> 3) + 8 * (unit & 3));
    const int shift = 4 * (unit >> 2 & 1);
    const float d = load_half(block + 64);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      runs[run].codes = bits(q, shift + 2 * run, 0x03030303U);
      runs[run].scale = d;
    }
  }
};

}  // namespace tensor_pager::kernels::cuda
