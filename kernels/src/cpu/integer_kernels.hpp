// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu/integer_formats.hpp"
#include "cpu/integer_table.hpp"

// Products of weights' codes with inputs rounded to 16 bits, as templates over what an
// integer_lanes_*.hpp defines before this file is included. See kernels.hpp for why everything is
// in an unnamed namespace.
//
// The sum over a group is exact: codes are below 2^7 in magnitude (2^8 with a bias), inputs below
// 2^15, and there are 32 products, so it is below 2^28. Integers can be summed in any order; only
// the order of floats is part of a product's definition, and it is this one. Group g of every block
// belongs to lane g. A lane's sum starts at 0 with every chunk and takes of each block in turn
//   (scale * input's scale) * sum of products, of the first half before the second,
//   offset * input's total, likewise,
// each by one fused multiply-add. The lanes are added up like sum_of_lanes does, and the chunks in
// order.

namespace tensor_pager::kernels::cpu {
namespace {

inline constexpr float kLargestCode = 32767.0F;
// Groups of smaller inputs are zeros: the reciprocal of their scale would not be a float.
inline constexpr float kSmallestMagnitude = 0x1p-100F;

// Blocks of 32 weights are taken eight at a time.
template <class Format>
inline constexpr std::size_t kFormatBlockBytes = Format::kBytes*(kBlockInputs / Format::kElements);

// ---- Inputs

TENSOR_PAGER_INLINE float largest_magnitude(const __m256 (&x)[4]) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  __m256i largest = _mm256_setzero_si256();
  // As integers infinities are larger than numbers, and what is not a number is larger still.
  for (const __m256 v : x) {
    largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(v), magnitude));
  }
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1));
  return _mm_cvtss_f32(_mm_castsi128_ps(m));
}

TENSOR_PAGER_INLINE std::int32_t sum_of(__m128i v) {
  v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xB1)));
}

TENSOR_PAGER_INLINE void store_sums(RoundedBlock& out, std::size_t group, __m256i even,
                                    __m256i odd) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i pairs =
      _mm256_add_epi32(_mm256_madd_epi16(even, ones), _mm256_madd_epi16(odd, ones));
  const std::int32_t first = sum_of(_mm256_castsi256_si128(pairs));
  const std::int32_t second = sum_of(_mm256_extracti128_si256(pairs, 1));
  const std::int32_t sums[3] = {first + second, first, second};
  for (std::size_t i = 0; i < 3; ++i) {
    out.sums[i][group] = sums[i];
    out.totals[i][group] = out.scale[group] * static_cast<float>(sums[i]);
  }
}

TENSOR_PAGER_INLINE void round_group(const float* x, RoundedBlock& out, std::size_t group) {
  const __m256 v[4] = {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16),
                       _mm256_loadu_ps(x + 24)};
  const float largest = largest_magnitude(v);
  const bool number = largest < __builtin_inff();
  const bool zero = !number || largest < kSmallestMagnitude;
  out.scale[group] = !number ? __builtin_nanf("") : zero ? 0.0F : largest / kLargestCode;
  const __m256 inverse = _mm256_set1_ps(zero ? 0.0F : kLargestCode / largest);
  __m256i even[2];
  __m256i odd[2];
#pragma GCC unroll 2
  for (std::size_t i = 0; i < 2; ++i) {
    const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(v[2 * i], inverse));
    const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(v[2 * i + 1], inverse));
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    even[i] = _mm256_srai_epi32(_mm256_slli_epi32(words, 16), 16);
    odd[i] = _mm256_srai_epi32(words, 16);
  }
  __m256i evens = _mm256_permute4x64_epi64(_mm256_packs_epi32(even[0], even[1]), 0xD8);
  __m256i odds = _mm256_permute4x64_epi64(_mm256_packs_epi32(odd[0], odd[1]), 0xD8);
  if (!number) evens = odds = _mm256_setzero_si256();
  auto* codes = reinterpret_cast<__m256i*>(out.codes + group * kGroupInputs);
  _mm256_store_si256(codes, evens);
  _mm256_store_si256(codes + 1, odds);
  store_sums(out, group, evens, odds);
}

inline void round_row(const float* x, std::size_t elements, RoundedBlock* out) {
  for (std::size_t start = 0; start < elements; start += kBlockInputs) {
    RoundedBlock& block = out[start / kBlockInputs];
    for (std::size_t group = 0; group < kBlockGroups; ++group) {
      const std::size_t first = start + group * kGroupInputs;
      float padded[kGroupInputs] = {};
      if (first >= elements) {
        round_group(padded, block, group);
      } else if (elements - first < kGroupInputs) {
        std::memcpy(padded, x + first, (elements - first) * sizeof(float));
        round_group(padded, block, group);
      } else {
        round_group(x + first, block, group);
      }
    }
  }
}

// ---- A few tokens: straight from blocks, eight lanes in every instruction set

TENSOR_PAGER_INLINE __m256i sum_pairs(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}
TENSOR_PAGER_INLINE __m256i sum_quads(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

// Adds up the partial sums of the groups of a block, as a tree whose branches are added as soon as
// both are there, so that few wait in registers.
struct GroupSums {
  __m256i one, two, four, eight;

  template <std::size_t kGroup>
  TENSOR_PAGER_INLINE void add(Constant<kGroup> /*group*/, __m256i partial) {
    if constexpr (kGroup % 2 == 0) {
      one = partial;
    } else {
      const __m256i pair = sum_pairs(one, partial);
      if constexpr (kGroup % 4 == 1) {
        two = pair;
      } else if constexpr (kGroup == 3) {
        four = sum_quads(two, pair);
      } else {
        eight = sum_quads(two, pair);
      }
    }
  }
  // Sums of the groups' first and second halves.
  [[nodiscard]] TENSOR_PAGER_INLINE __m256i first() const {
    return _mm256_permute2x128_si256(four, eight, 0x20);
  }
  [[nodiscard]] TENSOR_PAGER_INLINE __m256i second() const {
    return _mm256_permute2x128_si256(four, eight, 0x31);
  }
};

template <class Format>
TENSOR_PAGER_INLINE __m256 add_scaled(__m256 lanes, __m256i sums, __m256 scale,
                                      const RoundedBlock& x, std::size_t part) {
  if constexpr (Format::kBias != 0) {
    constexpr int kShift = __builtin_ctz(Format::kBias);
    sums = _mm256_sub_epi32(sums, _mm256_slli_epi32(load256(x.sums[part]), kShift));
  }
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(scale, _mm256_load_ps(x.scale)),
                         lanes);
}

template <class Format>
TENSOR_PAGER_INLINE __m256 add_block(__m256 lanes, const GroupSums& sums, const GroupScales& scales,
                                     const RoundedBlock& x) {
  if constexpr (Format::kHalves) {
    lanes = add_scaled<Format>(lanes, sums.first(), scales.scale[0], x, 1);
    lanes = add_scaled<Format>(lanes, sums.second(), scales.scale[1], x, 2);
  } else {
    const __m256i both = _mm256_add_epi32(sums.first(), sums.second());
    lanes = add_scaled<Format>(lanes, both, scales.scale[0], x, 0);
  }
  if constexpr (Format::kOffset && Format::kHalves) {
    lanes = _mm256_fmadd_ps(scales.offset[0], _mm256_load_ps(x.totals[1]), lanes);
    lanes = _mm256_fmadd_ps(scales.offset[1], _mm256_load_ps(x.totals[2]), lanes);
  } else if constexpr (Format::kOffset) {
    lanes = _mm256_fmadd_ps(scales.offset[0], _mm256_load_ps(x.totals[0]), lanes);
  }
  return lanes;
}

// `x` are the same block of the tokens, x_stride apart.
template <class Format, std::size_t kTokens>
TENSOR_PAGER_INLINE void dot_block(const std::uint8_t* block, const RoundedBlock* x,
                                   std::size_t x_stride, __m256 (&lanes)[kTokens]) {
  GroupSums sums[kTokens];
  for_each<kBlockGroups>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
    const Codes16 w = Format::codes(Row{block}, group);
#pragma GCC unroll 4
    for (std::size_t t = 0; t < kTokens; ++t) {
      const auto* codes = x[t * x_stride].codes + group.value * kGroupInputs;
      sums[t].add(group, dot_pairs(dot_pairs(w.even, load256(codes)), w.odd, load256(codes + 16)));
    }
  });
  const GroupScales scales = Format::scales(block);
#pragma GCC unroll 4
  for (std::size_t t = 0; t < kTokens; ++t) {
    lanes[t] = add_block<Format>(lanes[t], sums[t], scales, x[t * x_stride]);
  }
}

TENSOR_PAGER_INLINE float sum_of_lanes(__m256 lanes) {
  const __m128 fours = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
  const __m128 twos = _mm_add_ps(fours, _mm_movehl_ps(fours, fours));
  return _mm_cvtss_f32(_mm_add_ss(twos, _mm_movehdup_ps(twos)));
}

// The blocks of 32 that do not fill the last block of inputs, followed by zeros.
template <class Format>
struct LastBlock {
  std::uint8_t bytes[kFormatBlockBytes<Format>] = {};

  LastBlock(const std::uint8_t* blocks, std::size_t elements) {
    std::memcpy(bytes, blocks, elements / Format::kElements * Format::kBytes);
  }
};

// Into the second-level cache, since it is long until the next rows are used. Asked for in the
// order in which they lie in memory, these lines are a stream that the hardware's own prefetching
// joins; in the order of their use, each row's would be one of four, and a core reads a tenth less.
template <std::size_t kBytes>
TENSOR_PAGER_INLINE void prefetch(const std::uint8_t* ahead) {
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kBytes; i += 64) _mm_prefetch(ahead + i, _MM_HINT_T1);
}

// Rows that are multiplied block by block in turn, so that an input's block is fetched into the
// first-level cache once for all of them.
inline constexpr std::size_t kDirectRows = 4;

template <class Format, std::size_t kTokens>
TENSOR_PAGER_INLINE void dot_rows(const std::uint8_t* rows, std::size_t count,
                                  const DirectProduct& p, float* totals) {
  const std::size_t whole = p.cols / kBlockInputs;
  const std::size_t rest = p.cols % kBlockInputs;
  const std::size_t blocks = whole + (rest != 0 ? 1 : 0);
  float sums[kDirectRows][kTokens] = {};
  const std::uint8_t* ahead = rows + kDirectRows * p.row_bytes;
  for (std::size_t start = 0; start < blocks; start += kChunkBlocks) {
    const std::size_t end = start + kChunkBlocks;
    __m256 lanes[kDirectRows][kTokens];
    for (auto& row : lanes) {
      for (__m256& lane : row) lane = _mm256_setzero_ps();
    }
    for (std::size_t b = start; b < end && b < whole; ++b) {
#pragma GCC unroll 1
      for (std::size_t r = 0; r < count; ++r) {
        const std::uint8_t* block = rows + r * p.row_bytes + b * kFormatBlockBytes<Format>;
        prefetch<kFormatBlockBytes<Format>>(ahead);
        ahead += kFormatBlockBytes<Format>;
        dot_block<Format, kTokens>(block, p.x + b, blocks, lanes[r]);
      }
    }
    if (Format::kElements < kBlockInputs && rest != 0 && end >= blocks) {
#pragma GCC unroll 1
      for (std::size_t r = 0; r < count; ++r) {
        const std::uint8_t* block = rows + r * p.row_bytes + whole * kFormatBlockBytes<Format>;
        const LastBlock<Format> last(block, rest);
        dot_block<Format, kTokens>(last.bytes, p.x + whole, blocks, lanes[r]);
      }
    }
    for (std::size_t r = 0; r < count; ++r) {
      for (std::size_t t = 0; t < kTokens; ++t) sums[r][t] += sum_of_lanes(lanes[r][t]);
    }
  }
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t t = 0; t < kTokens; ++t) totals[t * p.totals_stride + r] = sums[r][t];
  }
}

template <class Format, std::size_t kTokens>
void direct(const DirectProduct& p) {
  const auto* rows = reinterpret_cast<const std::uint8_t*>(p.rows);
  for (std::size_t r = 0; r < p.row_count; r += kDirectRows) {
    const std::size_t left = p.row_count - r;
    dot_rows<Format, kTokens>(rows + r * p.row_bytes, left < kDirectRows ? left : kDirectRows, p,
                              p.totals + r);
  }
}

// ---- Many tokens: weights unpacked to panels whose rows are the lanes
//
// A panel block is 256 columns of kPanelRows rows: for each group 16 vectors of pairs of 16-bit
// codes, a pair for each row, in the order of the inputs' codes; then eight vectors, one a group,
// of each kind of scale.

// Transposes the pieces that a group's codes are in, as far as the group before did not need them.
template <class Format, class Group>
TENSOR_PAGER_INLINE void transpose_pieces(RowBlocks rows, Group /*group*/, __m256i* columns) {
  constexpr std::size_t kGroup = Group::value;
  constexpr std::size_t kFirst = kGroup == 0 ? 0 : Format::pieces(kGroup - 1);
  for_each<Format::pieces(kGroup) - kFirst>([&](auto i) TENSOR_PAGER_INLINE_LAMBDA {
    constexpr std::size_t kPiece = kFirst + decltype(i)::value;
    transpose_piece(rows, Format::piece(kPiece), columns + 4 * kPiece);
  });
}

// Scales and offsets of eight rows, one lane for each, by half and group.
template <class Format>
class TransposedScales {
 public:
  TENSOR_PAGER_INLINE explicit TransposedScales(RowBlocks rows) {
    alignas(32) float scale[kParts][kRowLanes][kBlockGroups];
    alignas(32) float offset[kParts][kRowLanes][kBlockGroups];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRowLanes; ++r) {
      const GroupScales scales = Format::scales(rows[r]);
      for (std::size_t part = 0; part < kParts; ++part) {
        _mm256_store_ps(scale[part][r], scales.scale[part]);
        if constexpr (Format::kOffset) _mm256_store_ps(offset[part][r], scales.offset[part]);
      }
    }
    for (std::size_t part = 0; part < kParts; ++part) {
      transpose_square(scale[part][0], kBlockGroups, scale_[part][0], kRowLanes);
      if constexpr (Format::kOffset) {
        transpose_square(offset[part][0], kBlockGroups, offset_[part][0], kRowLanes);
      }
    }
  }
  template <std::size_t kPart, std::size_t kGroup>
  [[nodiscard]] TENSOR_PAGER_INLINE __m256 scale() const {
    return _mm256_load_ps(scale_[kPart][kGroup]);
  }
  template <std::size_t kPart, std::size_t kGroup>
  [[nodiscard]] TENSOR_PAGER_INLINE __m256 offset() const {
    return _mm256_load_ps(offset_[kPart][kGroup]);
  }

 private:
  static constexpr std::size_t kParts = Format::kHalves ? 2 : 1;
  alignas(32) float scale_[kParts][kBlockGroups][kRowLanes];
  alignas(32) float offset_[kParts][kBlockGroups][kRowLanes];
};

template <class Format>
struct RowScalesOf {
  using Type = TransposedScales<Format>;
};
template <class Format>
requires requires {
  typename Format::RowScales;
}
struct RowScalesOf<Format> {
  using Type = typename Format::RowScales;
};
template <class Format>
using RowScales = typename RowScalesOf<Format>::Type;

// The last block of eight rows, of which there are blocks of 32 that do not fill it: followed by
// zeros.
template <class Format>
struct LastBlocks {
  std::uint8_t bytes[kRowLanes][kFormatBlockBytes<Format>] = {};

  LastBlocks(RowBlocks blocks, std::size_t elements) {
    for (std::size_t r = 0; r < kRowLanes; ++r) {
      std::memcpy(bytes[r], blocks[r], elements / Format::kElements * Format::kBytes);
    }
  }
};

// body(blocks) for block `b` of rows of `cols` weights.
template <class Format, class Body>
TENSOR_PAGER_INLINE void with_blocks(RowBlocks rows, std::size_t b, std::size_t cols, Body body) {
  const std::uint8_t* blocks[kRowLanes];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRowLanes; ++r) blocks[r] = rows[r] + b * kFormatBlockBytes<Format>;
  const std::size_t elements = cols - b * kBlockInputs;
  if (Format::kElements < kBlockInputs && elements < kBlockInputs) {
    const LastBlocks<Format> last(blocks, elements);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRowLanes; ++r) blocks[r] = last.bytes[r];
  }
  body(blocks);
}

// Pointers to eight rows; in place of those that are not there, the last one.
struct EightRows {
  const std::uint8_t* at[kRowLanes];

  EightRows(const std::byte* rows, std::size_t row_bytes, std::size_t count) {
    const auto* first = reinterpret_cast<const std::uint8_t*>(rows);
    for (std::size_t r = 0; r < kRowLanes; ++r) {
      at[r] = first + (r < count ? r : count - 1) * row_bytes;
    }
  }
};

template <class Format>
inline constexpr std::size_t kScaleKinds = (Format::kHalves ? 2U : 1U) *
                                           (Format::kOffset ? 2U : 1U);
template <class Format>
inline constexpr std::size_t kUnpackedVectors = 2 * kBlockGroups + kScaleKinds<Format>;
template <class Format>
inline constexpr std::size_t kPanelBlockBytes = kUnpackedVectors<Format> * 8 * kPanelRows * 4;

// Vector `i` of a panel block, of its first eight rows.
TENSOR_PAGER_INLINE __m256i* panel_vector(std::byte* block, std::size_t i) {
  return reinterpret_cast<__m256i*>(block + i * kPanelRows * 4);
}

template <class Format, std::size_t kHalf, class Group>
TENSOR_PAGER_INLINE void unpack_half(const __m256i* columns, Group group, std::byte* out) {
  const __m256i bias = _mm256_set1_epi16(Format::kBias);
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    const Codes16 w = Format::codes(Column<Format, kHalf>{columns, i}, group);
    const std::size_t vector = 16 * decltype(group)::value + 4 * kHalf + i;
    _mm256_store_si256(panel_vector(out, vector), _mm256_sub_epi16(w.even, bias));
    _mm256_store_si256(panel_vector(out, vector + 8), _mm256_sub_epi16(w.odd, bias));
  }
}

// Eight rows' block.
template <class Format>
TENSOR_PAGER_INLINE void unpack_rows(RowBlocks blocks, std::byte* out) {
  __m256i columns[4 * Format::kPieces];
  const RowScales<Format> scales(blocks);
  const auto store_scale = [&](std::size_t kind, std::size_t group,
                               __m256 scale) TENSOR_PAGER_INLINE_LAMBDA {
    _mm256_store_si256(panel_vector(out, (16 + kind) * kBlockGroups + group),
                       _mm256_castps_si256(scale));
  };
  for_each<kBlockGroups>([&](auto group) TENSOR_PAGER_INLINE_LAMBDA {
    constexpr std::size_t kGroup = decltype(group)::value;
    constexpr std::size_t kParts = Format::kHalves ? 2 : 1;
    transpose_pieces<Format>(blocks, group, columns);
    unpack_half<Format, 0>(columns, group, out);
    unpack_half<Format, 1>(columns, group, out);
    for_each<kParts>([&](auto part) TENSOR_PAGER_INLINE_LAMBDA {
      constexpr std::size_t kPart = decltype(part)::value;
      store_scale(kPart, kGroup, scales.template scale<kPart, kGroup>());
      if constexpr (Format::kOffset) {
        store_scale(kParts + kPart, kGroup, scales.template offset<kPart, kGroup>());
      }
    });
  });
}

template <class Format>
void unpack_panel(const PanelSource& s, std::byte* panel) {
  const auto* ahead = reinterpret_cast<const std::uint8_t*>(s.ahead);
  for (std::size_t first = 0; first < kPanelRows; first += kRowLanes) {
    // Rows that are not there repeat one that is: nobody reads their totals.
    const std::size_t row = first < s.row_count ? first : s.row_count - 1;
    const EightRows rows(s.rows + row * s.row_bytes, s.row_bytes, s.row_count - row);
    for (std::size_t b = 0; b < s.block_count; ++b) {
      if (ahead != nullptr) {
        prefetch<kRowLanes * kFormatBlockBytes<Format>>(ahead);
        ahead += kRowLanes * kFormatBlockBytes<Format>;
      }
      with_blocks<Format>(
          rows.at, s.first_block + b, s.cols, [&](RowBlocks blocks) TENSOR_PAGER_INLINE_LAMBDA {
            unpack_rows<Format>(blocks,
                                panel + b * kPanelBlockBytes<Format> + first * sizeof(float));
          });
    }
  }
}

// Vectors of kLanes rows that are multiplied together: the panel's.
inline constexpr std::size_t kPanelVectors = kPanelRows / kLanes;

template <std::size_t kTokens>
struct Lanes {
  Vec sums[kBlockGroups][kPanelVectors][kTokens];
};

TENSOR_PAGER_INLINE IntVec broadcast_pair(const std::int16_t* codes) {
  std::int32_t pair;
  std::memcpy(&pair, codes, sizeof pair);
  return broadcast_integer(pair);
}

// sums += four pairs of weights * four pairs of inputs.
template <std::size_t kTokens>
TENSOR_PAGER_INLINE void multiply_pairs(IntVec (&sums)[kPanelVectors][kTokens],
                                        const std::byte* pairs, const std::int16_t* codes,
                                        std::size_t x_stride) {
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    IntVec w[kPanelVectors];
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kPanelVectors; ++v) {
      w[v] = load_integers(pairs + (i * kPanelRows + v * kLanes) * 4);
    }
#pragma GCC unroll 8
    for (std::size_t t = 0; t < kTokens; ++t) {
      const IntVec x = broadcast_pair(codes + t * x_stride + 2 * i);
#pragma GCC unroll 4
      for (std::size_t v = 0; v < kPanelVectors; ++v) sums[v][t] = dot_pairs(sums[v][t], w[v], x);
    }
  }
}

// Adds sums times the scales of one kind to a group's lanes.
template <std::size_t kTokens>
TENSOR_PAGER_INLINE void add_scaled(Lanes<kTokens>& lanes, std::size_t group,
                                    const IntVec (&sums)[kPanelVectors][kTokens],
                                    const float* scales, const RoundedBlock* x,
                                    std::size_t x_stride) {
#pragma GCC unroll 4
  for (std::size_t v = 0; v < kPanelVectors; ++v) {
    const Vec scale = load(scales + v * kLanes);
#pragma GCC unroll 8
    for (std::size_t t = 0; t < kTokens; ++t) {
      const Vec factor = mul(scale, broadcast(x[t * x_stride].scale[group]));
      Vec& lane = lanes.sums[group][v][t];
      lane = multiply_add(to_floats(sums[v][t]), factor, lane);
    }
  }
}

template <std::size_t kTokens>
TENSOR_PAGER_INLINE void add_offsets(Lanes<kTokens>& lanes, std::size_t group, std::size_t part,
                                     const float* offsets, const RoundedBlock* x,
                                     std::size_t x_stride) {
#pragma GCC unroll 4
  for (std::size_t v = 0; v < kPanelVectors; ++v) {
    const Vec offset = load(offsets + v * kLanes);
#pragma GCC unroll 8
    for (std::size_t t = 0; t < kTokens; ++t) {
      Vec& lane = lanes.sums[group][v][t];
      lane = multiply_add(offset, broadcast(x[t * x_stride].totals[part][group]), lane);
    }
  }
}

// Pairs 0 to 3 and 8 to 11 of a group are of its first half.
template <class Format, std::size_t kTokens>
TENSOR_PAGER_INLINE void multiply_group(Lanes<kTokens>& lanes, std::size_t group,
                                        const std::byte* block, const RoundedBlock* x,
                                        std::size_t x_stride) {
  constexpr std::size_t kParts = Format::kHalves ? 2 : 1;
  constexpr std::size_t kFourPairs = 4 * kPanelRows * 4;
  constexpr std::size_t kCodeStride = sizeof(RoundedBlock) / sizeof(std::int16_t);
  const std::byte* pairs = block + group * 4 * kFourPairs;
  const std::int16_t* codes = x->codes + group * kGroupInputs;
  const auto* scales =
      reinterpret_cast<const float*>(block + kBlockGroups * 4 * kFourPairs) + group * kPanelRows;
  IntVec sums[kPanelVectors][kTokens];
#pragma GCC unroll 2
  for (std::size_t part = 0; part < kParts; ++part) {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kPanelVectors; ++v) {
#pragma GCC unroll 8
      for (std::size_t t = 0; t < kTokens; ++t) sums[v][t] = broadcast_integer(0);
    }
#pragma GCC unroll 4
    for (std::size_t four = part; four < 4; four += kParts) {
      multiply_pairs<kTokens>(sums, pairs + four * kFourPairs, codes + 8 * four,
                              x_stride * kCodeStride);
    }
    add_scaled<kTokens>(lanes, group, sums, scales + part * kBlockGroups * kPanelRows, x, x_stride);
  }
  if constexpr (Format::kOffset) {
#pragma GCC unroll 2
    for (std::size_t part = 0; part < kParts; ++part) {
      add_offsets<kTokens>(lanes, group, Format::kHalves ? part + 1 : 0,
                           scales + (kParts + part) * kBlockGroups * kPanelRows, x, x_stride);
    }
  }
}

template <class Format, std::size_t kTokens>
void multiply_tile(const PanelProduct& p, std::size_t first_token) {
  Lanes<kTokens> lanes;
  for (auto& group : lanes.sums) {
    for (auto& vector : group) {
      for (Vec& sum : vector) sum = broadcast(0.0F);
    }
  }
  const RoundedBlock* x = p.x + first_token * p.x_stride;
  for (std::size_t b = 0; b < p.block_count; ++b) {
    for (std::size_t group = 0; group < kBlockGroups; ++group) {
      multiply_group<Format, kTokens>(lanes, group, p.panel + b * kPanelBlockBytes<Format>, x + b,
                                      p.x_stride);
    }
  }
  for (std::size_t t = 0; t < kTokens; ++t) {
    for (std::size_t v = 0; v < kPanelVectors; ++v) {
      const auto lane = [&](std::size_t g)
                            TENSOR_PAGER_INLINE_LAMBDA { return lanes.sums[g][v][t]; };
      const Vec even = add(add(lane(0), lane(4)), add(lane(2), lane(6)));
      const Vec odd = add(add(lane(1), lane(5)), add(lane(3), lane(7)));
      float* totals = p.totals + (first_token + t) * p.totals_stride + v * kLanes;
      store(totals, add(load(totals), add(even, odd)));
    }
  }
}

template <class Format, std::size_t kTokens = kPanelTokens - 1>
void multiply_rest(const PanelProduct& p, std::size_t first_token) {
  if (p.tokens - first_token == kTokens) return multiply_tile<Format, kTokens>(p, first_token);
  if constexpr (kTokens > 1) multiply_rest<Format, kTokens - 1>(p, first_token);
}

template <class Format>
void multiply_panel(const PanelProduct& p) {
  std::size_t t = 0;
  for (; t + kPanelTokens <= p.tokens; t += kPanelTokens) multiply_tile<Format, kPanelTokens>(p, t);
  if (t < p.tokens) multiply_rest<Format>(p, t);
}

template <class Format>
constexpr IntegerFormat make_integer_format() {
  return {{direct<Format, 1>, direct<Format, 2>, direct<Format, 3>, direct<Format, 4>},
          unpack_panel<Format>,
          multiply_panel<Format>,
          kPanelBlockBytes<Format>};
}

constexpr IntegerKernels make_integer_kernels() {
  return {.q4_0 = make_integer_format<IntegerQ4_0>(),
          .q4_1 = make_integer_format<IntegerQ4_1>(),
          .q5_0 = make_integer_format<IntegerQ5_0>(),
          .q5_1 = make_integer_format<IntegerQ5_1>(),
          .q8_0 = make_integer_format<IntegerQ8_0>(),
          .q2_k = make_integer_format<IntegerQ2K>(),
          .q3_k = make_integer_format<IntegerQ3K>(),
          .q4_k = make_integer_format<IntegerQ4K>(),
          .q5_k = make_integer_format<IntegerQ5K>(),
          .q6_k = make_integer_format<IntegerQ6K>(),
          .iq4_nl = make_integer_format<IntegerIq4Nl>(),
          .iq4_xs = make_integer_format<IntegerIq4Xs>(),
          .round = round_row,
          .panel_rows = kPanelRows};
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
