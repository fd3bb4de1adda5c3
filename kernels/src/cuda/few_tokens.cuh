// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cuda/digits.cuh"
#include "cuda/few_tokens.hpp"
#include "cuda/few_tokens_columns.cuh"
#include "cuda/few_tokens_shape.cuh"
#include "cuda/few_tokens_sums.cuh"
#include "cuda/launch.hpp"
#include "cuda/launch_early.cuh"
#include "cuda/row_stages.cuh"
#include "cuda/units.cuh"
#include "kernels/error.hpp"

// The product of a few tokens with the rows of a quantised matrix, by the tensor cores' integers:
// codes are bytes, and activations are digits (kernels/cuda/digits.hpp), each digit of each token a
// column. So all that is done for a weight itself is to bring its code into a byte.

namespace tensor_pager::kernels::cuda {
namespace {

// c += a b: a [16, 32] bytes by row, signed or not, b [32, 8] signed ones by column. Thread l holds
// of a row l / 4 in words 0 and 2 and row l / 4 + 8 in 1 and 3; of b column l / 4; of c the rows of
// its a and columns 2 (l % 4) and one more. Which of the 32 its bytes are does not matter, as long
// as they are the same in a and b. (PTX manual, "Matrix fragments for mma.m16n8k32".)
template <bool kSigned>
__device__ inline void multiply_bytes(const std::uint32_t (&a)[4], uint2 b, int (&c)[4]) {
  if constexpr (kSigned) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};\n"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
  } else {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};\n"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
  }
}
// The same with sixteen bytes without a sign of each row, the first halves of a and b.
__device__ inline void multiply_bytes(const std::uint32_t (&a)[2], std::uint32_t b, int (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%0, %1, %2, %3};\n"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
}

// Products of bytes, scaled and added up: in integers, or in float32. The sum of kStart and an
// integer below 2^22, as a float, is 1.5 * 2^23 and the integer.
template <class Sum>
constexpr int kStart = 0x4B400000;
template <>
constexpr int kStart<int> = 0;

__device__ inline void add_scaled(float& sum, int c, float scale) {
  sum = __fmaf_rn(__fsub_rn(__int_as_float(c), 12582912.0F), scale, sum);
}
__device__ inline void add_scaled(int& sum, int c, int scale) {
  sum += c * scale;
}

// The codes of two rows as they are multiplied. Without a bias they need no sign.
template <class Format>
__device__ Codes factors(const Run& run) {
  return signed_codes<Format::kBias>(run.codes);
}
template <class Format>
__device__ Codes factors(const IntegerRun& run) {
  return run.codes;
}
template <class Format, class AnyRun>
__device__ void multiply_codes(const AnyRun& upper, const AnyRun& lower, uint2 b, int (&c)[4]) {
  const Codes first = factors<Format>(upper);
  const Codes second = factors<Format>(lower);
  const std::uint32_t a[4] = {first.low, second.low, first.high, second.high};
  multiply_bytes<Format::kBias != 0>(a, b, c);
}

// The scale of the units whose sums a thread has in a tile.
template <class Format>
__device__ float scale_of_columns(float own, unsigned tile) {
  if constexpr (kScalesOfQuad<Format> < 4) return own;
  return __shfl_sync(0xFFFFFFFFU, own, static_cast<int>((2 * tile + quad() / 2) % 4), 4);
}
template <class Format>
__device__ int scale_of_columns(int own, unsigned /*tile*/) {
  static_assert(kScalesOfQuad<Format> < 4);
  return own;
}

// Sixteen rows times every thread's unit: in integers if scales are. A block's sums stay below
// 2^31: with digits of at most 128, those of Q4_K are at most 256 codes of 240 * 63, of Q5_K 256 of
// 31 * 63, of Q6_K 256 of 4 * 32 * 128.
template <class Format, unsigned kTokens, class AnyRun, class Sum>
__device__ void add_unit(const AnyRun (&rows)[2][2], Columns<Format, kTokens>& columns,
                         GroupAndNext group, unsigned unit,
                         Sum (&sums)[kSets<Format>][kTiles<Format, kTokens>][4]) {
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
    int c[4];
#pragma unroll
    for (unsigned run = 0; run < 2; ++run) {
      if (run == 0 || !kOneScale<Format>) {
#pragma unroll
        for (int& start : c) start = kStart<Sum>;
      }
      multiply_codes<Format>(rows[0][run], rows[1][run], columns.load(i, group, unit, run), c);
      if (run == 0 && kOneScale<Format>) continue;
      const Sum scales[2] = {scale_of_columns<Format>(rows[0][run].scale, i),
                             scale_of_columns<Format>(rows[1][run].scale, i)};
#pragma unroll
      for (unsigned e = 0; e < 4; ++e) {
        add_scaled(sums[kSets<Format> == 1 ? 0 : run][i][e], c[e], scales[e / 2]);
      }
    }
  }
}

// A block's eight minima times the sums of the inputs that they are taken from.
template <class Format, unsigned kTokens, class Header>
__device__ void subtract_minima(const Header (&headers)[2], Columns<Format, kTokens>& columns,
                                unsigned group, float (&scaled)[kTiles<Format, kTokens>][4]) {
  std::uint32_t a[2];
#pragma unroll
  for (unsigned r = 0; r < 2; ++r) {
    a[r] = quad() % 2 == 0 ? headers[r].minima[0] : headers[r].minima[1];
  }
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
    int c[4] = {};
    multiply_bytes(a, columns.load_sums(i, group), c);
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) {
      scaled[i][e] = __fmaf_rn(static_cast<float>(c[e]), -headers[e / 2].d_minimum, scaled[i][e]);
    }
  }
}

template <class Format, unsigned kTokens>
__device__ void add_offsets(const FewTokens& p, const Run& upper, const Run& lower, unsigned group,
                            unsigned element, Sums<Format, kTokens>& sums) {
  const unsigned groups = (p.cols + kGroup - 1) / kGroup;
#pragma unroll
  for (unsigned t = 0; t < kTokens; ++t) {
    if (kTokens > 1 && t >= p.tokens) break;
    const auto* x = reinterpret_cast<const DigitRecord*>(p.x) + t * groups + group;
    const float sum = x->sums[element / 8];
    sums.offsets[t][0] += upper.offset * sum;
    sums.offsets[t][1] += lower.offset * sum;
  }
}

// What a group comes to, in units of its factor.
template <class Format, unsigned kTokens, int kAlign, class Book, class Headers>
__device__ void add_units(const FewTokens& p, const SharedBytes<kAlign> (&rows)[2],
                          GroupAndNext group, Columns<Format, kTokens>& columns, const Book& book,
                          const Headers& headers, Sums<Format, kTokens>& sums,
                          float (&scaled)[1][kTiles<Format, kTokens>][4]) {
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    const Unit<Format> at(i);
    // Beyond the end of a row, digits are zero: any block will do.
    const unsigned left = p.cols / Format::kElements - group.now * (kGroup / Format::kElements);
    const auto block = static_cast<int>(min(at.block, left - 1));
    Run runs[2][2];
#pragma unroll
    for (unsigned r = 0; r < 2; ++r) {
      decode_unit<Format, kAlign>(rows[r] + block * Format::kBytes, at.unit, book, headers[r],
                                  runs[r]);
    }
    add_unit<Format, kTokens>(runs, columns, group, i, scaled);
    if constexpr (kHasOffsets<Format>) {
#pragma unroll
      for (unsigned run = 0; run < 2; ++run) {
        const unsigned element = Unit<Format>::first_of_thread() + Unit<Format>::first_of_quad(i) +
                                 run * Format::kSecond;
        add_offsets(p, runs[0][run], runs[1][run], group.now, element, sums);
      }
    }
  }
}

// The same in integers; a group is a block.
template <class Format, unsigned kTokens, int kAlign, class Headers>
__device__ void add_integer_units(const SharedBytes<kAlign> (&rows)[2], GroupAndNext group,
                                  Columns<Format, kTokens>& columns, const Headers& headers,
                                  float (&scaled)[1][kTiles<Format, kTokens>][4]) {
  int sums[kSets<Format>][kTiles<Format, kTokens>][4] = {};
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    const Unit<Format> at(i);
    IntegerRun runs[2][2];
#pragma unroll
    for (unsigned r = 0; r < 2; ++r) {
      decode_unit<Format, kAlign>(rows[r], at.unit, NoBook{}, headers[r], runs[r]);
    }
    add_unit<Format, kTokens>(runs, columns, group, i, sums);
  }
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) {
      int sum = sums[0][i][e];
      if constexpr (kSets<Format> == 2) sum = Format::kSecondFactor * sum + sums[1][i][e];
      scaled[0][i][e] = __fmul_rn(static_cast<float>(sum), Format::factor(headers[e / 2]));
    }
  }
}

// The 256 columns of a group; `rows` begin with it.
template <class Format, unsigned kTokens, int kAlign, class Book>
__device__ void add_group(const FewTokens& p, const SharedBytes<kAlign> (&rows)[2],
                          GroupAndNext group, Columns<Format, kTokens>& columns, const Book& book,
                          Sums<Format, kTokens>& sums) {
  float scaled[1][kTiles<Format, kTokens>][4] = {};
  using Header = decltype(block_header<Format, kAlign>(rows[0]));
  const Header headers[2] = {block_header<Format, kAlign>(rows[0]),
                             block_header<Format, kAlign>(rows[1])};
  if constexpr (kHasIntegers<Format>) {
    add_integer_units<Format, kTokens>(rows, group, columns, headers, scaled);
  } else {
    add_units<Format, kTokens>(p, rows, group, columns, book, headers, sums, scaled);
  }
  if constexpr (kHasMinima<Format>) {
    subtract_minima<Format, kTokens>(headers, columns, group.now, scaled[0]);
  }
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
    const float factor = columns.factor(i, group.now);
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) {
      float& sum = sums.columns[i][e];
      sum = __fmaf_rn(scaled[0][i][e], factor * columns.powers[e % 2], sum);
    }
  }
}

template <class Format, Way kWay, unsigned kTokens, unsigned kWarps>
struct SharedMemory {
  static constexpr unsigned kDepth = kStages<Format, kWay, kWarps>;
  Stage<Format, kWay> stages[kWarps][kDepth];
  Partial<Format, kTokens> partials[kBuffers][kWarps];  // of a tile, and of the next
  std::uint64_t barriers[kWarps][kDepth];
};

// A block's share of the tiles. With kOnePart, as many warps as there are parts; otherwise a warp
// has all parts of a column.
template <class Format, Way kWay, unsigned kTokens, unsigned kWarps, bool kOnePart>
__device__ void multiply_tiles(const FewTokens& p, Share share,
                               SharedMemory<Format, kWay, kTokens, kWarps>& memory) {
  using Bytes = SharedBytes<kBlocksAt<Format, kWay>>;
  constexpr unsigned kDepth = kStages<Format, kWay, kWarps>;
  const auto& book = shared_book<Format>();
  const Copies<Format, kWay, kDepth> copies(p, memory.stages[warp()], memory.barriers[warp()]);
  using Items = Cursor<Format, kOnePart>;
  Items ahead(p, share);
#pragma unroll
  for (unsigned i = 0; i < kDepth; ++i) {
    copies.ask(p, ahead, i);
    ahead.advance(p);
  }
  // Weights were there before; inputs are what the kernel before leaves.
  begin_after_others();
  Columns<Format, kTokens> columns(p);
  columns.expect(Items::first_group());
  Sums<Format, kTokens> sums;
  Turns<Format, kTokens, kWarps> turns(memory.partials, share.warps);
  unsigned slot = 0;
  unsigned round = 0;
  for (Items at(p, share); !at.ended(p);) {
    copies.wait(slot, round);
    Bytes rows[2] = {Bytes(copies.row(p, at, slot, 0)), Bytes(copies.row(p, at, slot, 1))};
    const unsigned following = at.following(p);
    unsigned group = at.group;
    const auto add = [&](unsigned next) {
      add_group<Format, kTokens>(p, rows, {group, next}, columns, book, sums);
    };
    const bool two = kTogether<Format> == 2 && (group + 1) * kGroup < p.cols;
    const auto advance = [&] {
      ++group;
      for (Bytes& row : rows) row = row + kGroupBytes<Format>;
    };
    if constexpr (kTokens > 1 || !kOnePart) {
      // That is long enough to stand here once.
#pragma unroll 1
      for (unsigned left = two ? 2 : 1; left > 0; --left, advance()) {
        add(left == 2 ? group + 1 : following);
      }
    } else if (two) {
      add(group + 1);
      advance();
      add(following);
    } else {
      add(following);
    }
    __syncwarp();  // all have read what the next copies overwrite
    copies.ask(p, ahead, slot);
    ahead.advance(p);
    if (++slot == kDepth) slot = 0, ++round;
    const unsigned matrix = at.matrix;
    const unsigned tile = at.tile;
    const unsigned part = at.part;
    const Ended ended = at.advance(p);
    if (ended == Ended::nothing) continue;
    turns.end_part(sums, kOnePart || part == warp());
    if (ended == Ended::tile) turns.end_tile(p, p.matrices[matrix], tile);
    sums = Sums<Format, kTokens>();
  }
}

// A GPU without a copy engine has no code of what needs it (map_rows makes no map there).
template <Way kWay>
constexpr bool kHasCode =
#if __CUDA_ARCH__ < 900
    kWay != Way::mapped;
#else
    true;
#endif

template <class Format, Way kWay, unsigned kTokens, unsigned kWarps, bool kOnePart>
__global__ void __launch_bounds__(32 * kWarps, kBlocksPerMultiprocessor<kTokens, kWarps>)
    multiply_units(const __grid_constant__ FewTokens p) {
  if constexpr (kHasCode<kWay>) {
    extern __shared__ __align__(128) uint4 dynamic[];
    auto& memory = *reinterpret_cast<SharedMemory<Format, kWay, kTokens, kWarps>*>(dynamic);
    multiply_tiles<Format, kWay, kTokens, kWarps, kOnePart>(
        p, {blockIdx.x, gridDim.x, blockDim.x / 32}, memory);
  }
}

// Matrices of two types at once, for one token: a kernel of its own for each would begin when the
// one before has ended, for a few rows. The second type's blocks are the first ones.
struct FewTokensOfTwo {
  FewTokens first, second;
  unsigned blocks_of_second;
};

template <class First, class Second>
__global__ void __launch_bounds__(32 * kFewWarps, kBlocksPerMultiprocessor<1, kFewWarps>)
    multiply_units_of_two(const __grid_constant__ FewTokensOfTwo p) {
  if constexpr (kHasCode<Way::mapped>) {
    extern __shared__ __align__(128) uint4 dynamic[];
    const unsigned second = p.blocks_of_second;
    const auto work = [&]<class Format>(const FewTokens& of_type, unsigned block, unsigned blocks) {
      if (warp() >= of_type.parts) return;
      auto& memory = *reinterpret_cast<SharedMemory<Format, Way::mapped, 1, kFewWarps>*>(dynamic);
      multiply_tiles<Format, Way::mapped, 1, kFewWarps, true>(
          of_type, {block, blocks, of_type.parts}, memory);
    };
    if (blockIdx.x < second) {
      work.template operator()<Second>(p.second, blockIdx.x, second);
    } else {
      work.template operator()<First>(p.first, blockIdx.x - second, gridDim.x - second);
    }
  }
}

inline unsigned count_tiles(const FewTokens& p) {
  unsigned tiles = 0;
  for (unsigned i = 0; i < p.count; ++i) tiles += blocks_for(p.matrices[i].rows, kRows);
  return tiles;
}

template <class Format, Way kWay, unsigned kTokens, unsigned kWarps, bool kOnePart>
void launch(const FewTokens& p, unsigned multiprocessors, cudaStream_t stream) {
  constexpr std::size_t kShared = sizeof(SharedMemory<Format, kWay, kTokens, kWarps>);
  static_assert(kShared <= 227 * 1024);
  const auto kernel = multiply_units<Format, kWay, kTokens, kWarps, kOnePart>;
  static std::atomic<std::uint64_t> allowed{0};
  allow_shared(kernel, kShared, allowed);
  const unsigned most = multiprocessors * kBlocksPerMultiprocessor<kTokens, kWarps>;
  const unsigned grid = std::min(count_tiles(p), most);
  const unsigned warps = kOnePart ? p.parts : p.columns_of_parts;
  launch_early(kernel, {grid, 32 * warps, kShared, stream}, p);
}

// Finds how rows are divided, and makes maps if it can.
template <class Format>
bool prepare(FewTokens& p) {
  const Parts parts = parts_for<Format>(blocks_for(p.cols, kGroup * kTogether<Format>));
  p.parts = parts.count;
  p.columns_of_parts = parts.columns;
  return map_rows(p, Stage<Format, Way::mapped>::kStride, kRows, kWhole<Format> ? 1 : 4);
}

template <class Format, unsigned kTokens>
void multiply_units(FewTokens p, unsigned multiprocessors, cudaStream_t stream) {
  if (!prepare<Format>(p)) {
    return launch<Format, Way::plain, kTokens, kFewWarps, false>(p, multiprocessors, stream);
  }
  if constexpr (kTokens == 1) {
    if (p.parts <= kFewWarps) {
      return launch<Format, Way::mapped, 1, kFewWarps, true>(p, multiprocessors, stream);
    }
    launch<Format, Way::mapped, 1, kManyWarps<Format>, true>(p, multiprocessors, stream);
  } else {
    launch<Format, Way::mapped, kTokens, kFewWarps, false>(p, multiprocessors, stream);
  }
}

/// False if that is not possible with these; then nothing has been launched.
template <class First, class Second>
bool launch_of_two(const FewTokens& first, const FewTokens& second, unsigned multiprocessors,
                   cudaStream_t stream) {
  FewTokensOfTwo p{first, second, 0};
  if (first.tokens != 1 || !prepare<First>(p.first) || !prepare<Second>(p.second)) return false;
  const unsigned warps = std::max(p.first.parts, p.second.parts);
  if (warps > kFewWarps) return false;
  const unsigned most = multiprocessors * kBlocksPerMultiprocessor<1, kFewWarps>;
  p.blocks_of_second = count_tiles(p.second);
  if (p.blocks_of_second >= most / 2) return false;
  const unsigned blocks = std::min(count_tiles(p.first), most - p.blocks_of_second);
  constexpr std::size_t kShared = std::max(sizeof(SharedMemory<First, Way::mapped, 1, kFewWarps>),
                                           sizeof(SharedMemory<Second, Way::mapped, 1, kFewWarps>));
  const auto kernel = multiply_units_of_two<First, Second>;
  static std::atomic<std::uint64_t> allowed{0};
  allow_shared(kernel, kShared, allowed);
  launch_early(kernel, {blocks + p.blocks_of_second, 32 * warps, kShared, stream}, p);
  return true;
}

template <class Format>
void multiply_units(const FewTokens& p, unsigned multiprocessors, cudaStream_t stream) {
  if (p.tokens == 1) return multiply_units<Format, 1>(p, multiprocessors, stream);
  multiply_units<Format, static_cast<unsigned>(kMostFewTokens)>(p, multiprocessors, stream);
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda
