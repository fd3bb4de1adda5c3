// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu/formats.hpp"
#include "cpu/rounded_block.hpp"

// The storage formats again (formats.hpp describes their bits), now as what integer products need
// of 256 weights of eight rows at once: the rows are the lanes, since a sum over a row then needs
// no adding up of lanes, and eight rows' scales are unpacked together.
//   weight = scale * (code - kBias) + offset
// A bias that is left to the sums of the inputs saves subtracting it from every code. Formats with
// a scale for each 16 weights (kHalves) have those of the groups' first halves and of their second.
//
// codes(source, Constant<group>) are the codes of a Row, 32 of a group, or of a Column, four of a
// group in each of eight rows. Columns are made of pieces of 16 bytes: piece(i) is the offset of
// one in a row's block, column(offset) the first column of the bytes from there on, and
// pieces(group) how many of them the groups up to this one need. scales() gives the factors of each
// group of a row; RowScales, where it is, those of eight rows at once, which is faster.

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
TENSOR_PAGER_INLINE void for_each_of([[maybe_unused]] Body body, Indices<kIndices...> /*indices*/) {
  (body(Constant<kIndices>{}), ...);
}

/// body(Constant<0>) to body(Constant<kCount - 1>), unrolled in every build.
template <std::size_t kCount, class Body>
TENSOR_PAGER_INLINE void for_each(Body body) {
  for_each_of(body, typename MakeIndices<kCount>::Type{});
}
#define TENSOR_PAGER_INLINE_LAMBDA __attribute__((always_inline))

inline constexpr std::size_t kRowLanes = 8;

// Blocks of eight rows.
using RowBlocks = const std::uint8_t* const (&)[kRowLanes];

// A row's, one lane for each group. [0] is all that formats with one scale for each 32 weights
// have.
struct GroupScales {
  __m256 scale[2];
  __m256 offset[2];
};

// 16-bit words: codes of the weights of even and of odd index.
struct Codes16 {
  __m256i even, odd;
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

TENSOR_PAGER_INLINE Codes16 unsigned_codes(__m256i bytes) {
  return {_mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16(bytes, 8)};
}
TENSOR_PAGER_INLINE Codes16 signed_codes(__m256i bytes) {
  return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
}

TENSOR_PAGER_INLINE __m256i iq4_values256(__m256i index) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(iq4_values()), index);
}

// 32 codes of one row, in the order of their index. Blocks are taken whole.
struct Row {
  const std::uint8_t* block;

  // Bytes of codes.
  [[nodiscard]] TENSOR_PAGER_INLINE __m256i bytes(std::size_t offset) const {
    return load256(block + offset);
  }
  // Of 16 bytes: the low nibbles are the first 16 codes, the high ones the others.
  [[nodiscard]] TENSOR_PAGER_INLINE __m256i nibbles(std::size_t offset) const {
    const __m128i q = load_codes(block + offset);
    return bit_and256(_mm256_set_m128i(_mm_srli_epi16(q, 4), q), 0x0F);
  }
  // Of a word with one bit for each code: `value` where it is set.
  [[nodiscard]] TENSOR_PAGER_INLINE __m256i bits(std::size_t offset, int value) const {
    const auto word = static_cast<int>(word_at<std::uint32_t>(block + offset));
    const __m256i spread = _mm256_shuffle_epi8(
        _mm256_set1_epi32(word),
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
    const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ULL));
    return bit_and256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit), value);
  }
};

// out[i] = four bytes of every row, from byte offset + 4 * i on.
TENSOR_PAGER_INLINE void transpose_piece(RowBlocks rows, std::size_t offset, __m256i* out) {
  __m256i pairs[4];  // rows i and i + 4
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    pairs[i] = _mm256_set_m128i(load_codes(rows[i + 4] + offset), load_codes(rows[i] + offset));
  }
  const __m256i a = _mm256_unpacklo_epi32(pairs[0], pairs[1]);
  const __m256i b = _mm256_unpackhi_epi32(pairs[0], pairs[1]);
  const __m256i c = _mm256_unpacklo_epi32(pairs[2], pairs[3]);
  const __m256i d = _mm256_unpackhi_epi32(pairs[2], pairs[3]);
  out[0] = _mm256_unpacklo_epi64(a, c);
  out[1] = _mm256_unpackhi_epi64(a, c);
  out[2] = _mm256_unpacklo_epi64(b, d);
  out[3] = _mm256_unpackhi_epi64(b, d);
}

// The same of four codes of eight rows: one column of half a group.
template <class Format, std::size_t kHalf>
struct Column {
  const __m256i* columns;
  std::size_t index;  // below 4

  [[nodiscard]] TENSOR_PAGER_INLINE __m256i bytes(std::size_t offset) const {
    return _mm256_load_si256(columns + Format::column(offset) + 4 * kHalf + index);
  }
  [[nodiscard]] TENSOR_PAGER_INLINE __m256i nibbles(std::size_t offset) const {
    const __m256i q = _mm256_load_si256(columns + Format::column(offset) + index);
    return bit_and256(kHalf == 0 ? q : _mm256_srli_epi16(q, 4), 0x0F);
  }
  [[nodiscard]] TENSOR_PAGER_INLINE __m256i bits(std::size_t offset, int value) const {
    const __m256i words = _mm256_load_si256(columns + Format::column(offset));
    const auto shift = static_cast<int>(4 * (4 * kHalf + index));
    const __m256i first = _mm256_srl_epi32(words, _mm_cvtsi32_si128(shift));
    const __m256i spread =
        _mm256_shuffle_epi8(first, _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0C0C0C0C, 0,
                                                     0x04040404, 0x08080808, 0x0C0C0C0C));
    const __m256i bit = _mm256_set1_epi32(0x08040201);
    return bit_and256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit), value);
  }
};

// The halves at an offset of eight rows.
TENSOR_PAGER_INLINE __m256 row_halves(RowBlocks rows, std::size_t offset) {
  std::uint16_t halves[kRowLanes];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kRowLanes; ++i) halves[i] = word_at<std::uint16_t>(rows[i] + offset);
  __m128i v;
  std::memcpy(&v, halves, sizeof v);
  return _mm256_cvtph_ps(v);
}

// Scales at the beginning of blocks of 32, then offsets where there are any.
template <std::size_t kBytes>
class HalvesOfRows {
 public:
  TENSOR_PAGER_INLINE explicit HalvesOfRows(RowBlocks rows) : rows_(rows) {}
  template <std::size_t kPart, std::size_t kGroup>
  [[nodiscard]] TENSOR_PAGER_INLINE __m256 scale() const {
    return row_halves(rows_, kGroup * kBytes);
  }
  template <std::size_t kPart, std::size_t kGroup>
  [[nodiscard]] TENSOR_PAGER_INLINE __m256 offset() const {
    return row_halves(rows_, kGroup * kBytes + 2);
  }

 private:
  RowBlocks rows_;
};

// Eight blocks of 32 weights, each with kUnitPieces pieces kStep bytes apart from kFirst on.
template <std::size_t kBlock, std::size_t kFirst, std::size_t kUnitPieces, std::size_t kStep = 16>
struct BlocksOf32 {
  static constexpr std::size_t kElements = 32, kBytes = kBlock;
  static constexpr std::size_t kPieces = kBlockGroups * kUnitPieces;
  using RowScales = HalvesOfRows<kBytes>;
  static constexpr std::size_t piece(std::size_t i) {
    return i / kUnitPieces * kBytes + kFirst + i % kUnitPieces * kStep;
  }
  static constexpr std::size_t pieces(std::size_t group) { return (group + 1) * kUnitPieces; }
  static constexpr std::size_t column(std::size_t offset) {
    return 4 * (offset / kBytes * kUnitPieces + (offset % kBytes - kFirst) / kStep);
  }
};

// A block of 256 weights whose codes are kCodeBytes from kFirst on.
template <std::size_t kBlock, std::size_t kFirst, std::size_t kCodeBytes>
struct BlockOf256 {
  static constexpr std::size_t kElements = 256, kBytes = kBlock;
  static constexpr std::size_t kPieces = kCodeBytes / 16;
  static constexpr std::size_t piece(std::size_t i) { return kFirst + 16 * i; }
  static constexpr std::size_t pieces(std::size_t /*group*/) { return kPieces; }
  static constexpr std::size_t column(std::size_t offset) { return (offset - kFirst) / 4; }
};

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

struct IntegerQ4_0 : BlocksOf32<18, 2, 1> {
  static constexpr int kBias = 8;
  static constexpr bool kHalves = false, kOffset = false;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    return unsigned_codes(column.nibbles(group.value * kBytes + 2));
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {}};
  }
};

struct IntegerQ4_1 : BlocksOf32<20, 4, 1> {
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = true;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    return unsigned_codes(column.nibbles(group.value * kBytes + 4));
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {block_halves<kBytes>(blocks + 2)}};
  }
};

// The word of fifth bits is the beginning of one piece, the nibbles are another.
struct IntegerQ5_0 : BlocksOf32<22, 2, 2, 4> {
  static constexpr int kBias = 16;
  static constexpr bool kHalves = false, kOffset = false;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    const std::size_t block = group.value * kBytes;
    return unsigned_codes(_mm256_or_si256(column.nibbles(block + 6), column.bits(block + 2, 16)));
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {}};
  }
};

struct IntegerQ5_1 : BlocksOf32<24, 4, 2, 4> {
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = true;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    const std::size_t block = group.value * kBytes;
    return unsigned_codes(_mm256_or_si256(column.nibbles(block + 8), column.bits(block + 4, 16)));
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {block_halves<kBytes>(blocks + 2)}};
  }
};

struct IntegerQ8_0 : BlocksOf32<34, 2, 2> {
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = false;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    return signed_codes(column.bytes(group.value * kBytes + 2));
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {}};
  }
};

struct IntegerQ2K : BlockOf256<84, 16, 64> {
  static constexpr int kBias = 0;
  static constexpr bool kHalves = true, kOffset = true;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    const __m256i q = column.bytes(16 + 32 * (group.value / 4));
    return unsigned_codes(bit_and256(_mm256_srli_epi16(q, 2 * (group.value % 4)), 0x03));
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

struct IntegerQ3K : BlockOf256<110, 0, 96> {
  static constexpr int kBias = 4;
  static constexpr bool kHalves = true, kOffset = false;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    constexpr int kGroup = static_cast<int>(decltype(group)::value);
    const __m256i high = column.bytes(0);
    const __m256i q = column.bytes(32 + 32 * (kGroup / 4));
    const __m256i pair = bit_and256(_mm256_srli_epi16(q, 2 * (kGroup % 4)), 0x03);
    const __m256i third =
        kGroup < 2 ? _mm256_slli_epi16(high, 2 - kGroup) : _mm256_srli_epi16(high, kGroup - 2);
    return unsigned_codes(_mm256_or_si256(pair, bit_and256(third, 0x04)));
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* block) {
    return halves_of_bytes(subtract(Q3K::scale_bits(block + 96), cpu::codes(32)),
                           half_at(block + 108));
  }
};

// A byte of each word.
template <std::size_t kByte>
TENSOR_PAGER_INLINE __m256 unsigned_byte(__m256i words) {
  if constexpr (kByte < 3)
    words = _mm256_and_si256(_mm256_srli_epi32(words, 8 * kByte), _mm256_set1_epi32(0xFF));
  else
    words = _mm256_srli_epi32(words, 24);
  return _mm256_cvtepi32_ps(words);
}
template <std::size_t kByte>
TENSOR_PAGER_INLINE __m256 signed_byte(__m256i words) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words, 24 - 8 * kByte), 24));
}

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

// The same of eight rows: six bits each, four in a word.
class KRowScales {
 public:
  TENSOR_PAGER_INLINE explicit KRowScales(RowBlocks rows) {
    __m256i words[4];
    transpose_piece(rows, 0, words);
    const __m256i halves =
        _mm256_shuffle_epi8(words[0], _mm256_broadcastsi128_si256(_mm_setr_epi8(
                                          0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15)));
    const __m256i sorted = _mm256_permute4x64_epi64(halves, 0xD8);
    d_ = _mm256_cvtph_ps(_mm256_castsi256_si128(sorted));
    minus_minimum_ =
        _mm256_xor_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(sorted, 1)), _mm256_set1_ps(-0.0F));
    scales_[0] = bit_and256(words[1], 0x3F);
    scales_[1] = _mm256_or_si256(bit_and256(words[3], 0x0F), upper_bits(words[1]));
    minima_[0] = bit_and256(words[2], 0x3F);
    minima_[1] =
        _mm256_or_si256(bit_and256(_mm256_srli_epi32(words[3], 4), 0x0F), upper_bits(words[2]));
  }
  template <std::size_t kPart, std::size_t kGroup>
  [[nodiscard]] TENSOR_PAGER_INLINE __m256 scale() const {
    return _mm256_mul_ps(d_, unsigned_byte<kGroup % 4>(scales_[kGroup / 4]));
  }
  template <std::size_t kPart, std::size_t kGroup>
  [[nodiscard]] TENSOR_PAGER_INLINE __m256 offset() const {
    return _mm256_mul_ps(minus_minimum_, unsigned_byte<kGroup % 4>(minima_[kGroup / 4]));
  }

 private:
  TENSOR_PAGER_INLINE static __m256i upper_bits(__m256i words) {
    return bit_and256(_mm256_srli_epi32(words, 2), 0x30);
  }

  __m256 d_, minus_minimum_;
  __m256i scales_[2], minima_[2];
};

struct IntegerQ4K : BlockOf256<144, 16, 128> {
  static constexpr std::size_t pieces(std::size_t group) { return 2 * (group / 2 + 1); }
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = true;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    const __m256i q = column.bytes(16 + 32 * (group.value / 2));
    const __m256i nibble = _mm256_set1_epi16(0x0F);
    if constexpr (decltype(group)::value % 2 == 0) {
      return {_mm256_and_si256(q, nibble), _mm256_and_si256(_mm256_srli_epi16(q, 8), nibble)};
    } else {
      return {_mm256_and_si256(_mm256_srli_epi16(q, 4), nibble), _mm256_srli_epi16(q, 12)};
    }
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* block) {
    return k_scales(block);
  }
  using RowScales = KRowScales;
};

struct IntegerQ5K : BlockOf256<176, 16, 160> {
  static constexpr std::size_t pieces(std::size_t group) { return 2 + 2 * (group / 2 + 1); }
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = true;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    constexpr int kGroup = static_cast<int>(decltype(group)::value);
    const __m256i fifths = column.bytes(16);
    const __m256i q = column.bytes(48 + 32 * (kGroup / 2));
    const __m256i low = bit_and256(kGroup % 2 == 0 ? q : _mm256_srli_epi16(q, 4), 0x0F);
    const __m256i fifth =
        kGroup < 4 ? _mm256_slli_epi16(fifths, 4 - kGroup) : _mm256_srli_epi16(fifths, kGroup - 4);
    return unsigned_codes(_mm256_or_si256(low, bit_and256(fifth, 0x10)));
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* block) {
    return k_scales(block);
  }
  using RowScales = KRowScales;
};

// The signed scales of eight rows' blocks of Q6_K.
class Q6KRowScales {
 public:
  TENSOR_PAGER_INLINE explicit Q6KRowScales(RowBlocks rows) : d_(row_halves(rows, 208)) {
    transpose_piece(rows, 192, words_);
  }
  template <std::size_t kPart, std::size_t kGroup>
  [[nodiscard]] TENSOR_PAGER_INLINE __m256 scale() const {
    return _mm256_mul_ps(d_, signed_byte<kGroup % 2 * 2 + kPart>(words_[kGroup / 2]));
  }

 private:
  __m256 d_;
  __m256i words_[4];
};

// Pieces are in the order of the block's halves: 64 bytes of low bits and 32 of high ones each.
struct IntegerQ6K : BlockOf256<210, 0, 192> {
  static constexpr std::size_t pieces(std::size_t group) { return group < 4 ? 6 : 12; }
  static constexpr std::size_t piece(std::size_t i) {
    return i % 6 < 4 ? i / 6 * 64 + i % 6 * 16 : 128 + i / 6 * 32 + (i % 6 - 4) * 16;
  }
  static constexpr std::size_t column(std::size_t offset) {
    return offset < 128 ? offset / 64 * 24 + offset % 64 / 4
                        : (offset - 128) / 32 * 24 + 16 + offset % 32 / 4;
  }

  static constexpr int kBias = 32;
  static constexpr bool kHalves = true, kOffset = false;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    constexpr std::size_t kHalf = decltype(group)::value / 4;
    constexpr int kRun = static_cast<int>(decltype(group)::value % 4);
    const __m256i q = column.bytes(64 * kHalf + 32 * (group.value % 2));
    const __m256i low = bit_and256(kRun < 2 ? q : _mm256_srli_epi16(q, 4), 0x0F);
    const __m256i upper = column.bytes(128 + 32 * kHalf);
    const __m256i pair =
        kRun < 2 ? _mm256_slli_epi16(upper, 4 - 2 * kRun) : _mm256_srli_epi16(upper, 2 * kRun - 4);
    return unsigned_codes(_mm256_or_si256(low, bit_and256(pair, 0x30)));
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* block) {
    return halves_of_bytes(load_codes(block + 192), half_at(block + 208));
  }
  using RowScales = Q6KRowScales;
};

struct IntegerIq4Nl : BlocksOf32<18, 2, 1> {
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = false;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    return signed_codes(iq4_values256(column.nibbles(group.value * kBytes + 2)));
  }
  TENSOR_PAGER_INLINE static GroupScales scales(const std::uint8_t* blocks) {
    return {{block_halves<kBytes>(blocks)}, {}};
  }
};

struct IntegerIq4Xs : BlockOf256<136, 8, 128> {
  static constexpr std::size_t pieces(std::size_t group) { return group + 1; }
  static constexpr int kBias = 0;
  static constexpr bool kHalves = false, kOffset = false;
  template <class Column, class Group>
  TENSOR_PAGER_INLINE static Codes16 codes(const Column& column, Group group) {
    return signed_codes(iq4_values256(column.nibbles(8 + 16 * group.value)));
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
