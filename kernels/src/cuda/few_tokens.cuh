// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/digits.cuh"
#include "cuda/few_tokens.hpp"
#include "cuda/hopper.cuh"
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

// A block's warps share a tile (row_stages.cuh), each taking groups of 256 columns in turn, and go
// on to the block's next.
constexpr unsigned kMostWarps = 5;
// Of several tokens, sums take the registers of two blocks.
template <unsigned kTokens>
constexpr unsigned kBlocksPerMultiprocessor = kTokens == 1 ? 4 : 2;

// Threads of a quad whose units have scales of their own have columns of their own: a part. A token
// has four columns in each, of which the last is the fourth digit of sums, or nothing.
template <class Format>
constexpr unsigned kParts = 4 / Format::kUnitsPerScale;
// Of eight columns.
template <class Format, unsigned kTokens>
constexpr unsigned kTiles = (4 * kParts<Format> * kTokens + 7) / 8;

// How many warps share a block's rows: one less where that leaves fewer of them without work in the
// last round. Part of the definition of a product's bits: it depends on the columns only.
constexpr unsigned warps_for(unsigned groups) {
  if (groups <= kMostWarps) return groups;
  const auto idle = [&](unsigned warps) { return (warps - groups % warps) % warps * kMostWarps; };
  const unsigned rounds = (groups + kMostWarps - 1) / kMostWarps;
  return idle(kMostWarps) > rounds * kMostWarps / 2 && idle(kMostWarps - 1) < idle(kMostWarps)
             ? kMostWarps - 1
             : kMostWarps;
}

// c = start + a b: a [16, 32] bytes by row, signed or not, b [32, 8] signed ones by column. Thread
// l holds of a row l / 4 in words 0 and 2 and row l / 4 + 8 in 1 and 3; of b column l / 4; of c the
// rows of its a and columns 2 (l % 4) and one more. Which of the 32 its bytes are does not matter,
// as long as they are the same in a and b. (PTX manual, "Matrix fragments for mma.m16n8k32".)
template <bool kSigned>
__device__ inline void multiply_bytes(const std::uint32_t (&a)[4], uint2 b, int start,
                                      int (&c)[4]) {
  if constexpr (kSigned) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%10, %10, %10, %10};\n"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(start));
  } else {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%10, %10, %10, %10};\n"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(start));
  }
}

// The sum of this and an integer below 2^22, as a float, is 1.5 * 2^23 and the integer.
constexpr int kIntegerAsFloat = 0x4B400000;
__device__ inline float as_float(int c) {
  return __int_as_float(c) - 12582912.0F;
}

// The codes of two rows as they are multiplied. Without a bias they need no sign.
template <class Format, class AnyRun>
__device__ void multiply_codes(const AnyRun& upper, const AnyRun& lower, uint2 b, int start,
                               int (&c)[4]) {
  const Codes first = signed_codes<Format::kBias>(upper.codes);
  const Codes second = signed_codes<Format::kBias>(lower.codes);
  const std::uint32_t a[4] = {first.low, second.low, first.high, second.high};
  multiply_bytes<Format::kBias != 0>(a, b, start, c);
}

__device__ inline unsigned quad() {
  return threadIdx.x % 4;
}

// Offsets are a block's minima, which are multiplied like codes, or are added up in float32.
template <class Format>
constexpr bool kHasMinima = Format::kAffine&& kHasHeader<Format>;
template <class Format>
constexpr bool kHasOffsets = Format::kAffine && !kHasMinima<Format>;

// What a thread sums up: of its columns of each tile, and for its own units of each token.
template <class Format, unsigned kTokens>
struct Sums {
  float columns[kTiles<Format, kTokens>][4] = {};
  float offsets[kTokens][2] = {};
};

// A warp's sums of a tile.
template <class Format, unsigned kTokens>
struct Partial {
  float pairs[4 * kTiles<Format, kTokens>][kRows];  // of columns
  float offsets[kTokens][kRows];
};

// Leaves a warp's sums for the one that finishes the tile.
template <class Format, unsigned kTokens>
__device__ void leave(const Sums<Format, kTokens>& sums, Partial<Format, kTokens>& partial) {
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
#pragma unroll
    for (unsigned r = 0; r < 2; ++r) {
      partial.pairs[4 * i + quad()][lane() / 4 + 8 * r] =
          sums.columns[i][2 * r + 1] + sums.columns[i][2 * r];
    }
  }
  if constexpr (kHasOffsets<Format>) {
#pragma unroll
    for (unsigned t = 0; t < kTokens; ++t) {
#pragma unroll
      for (unsigned r = 0; r < 2; ++r) {
        float sum = sums.offsets[t][r];
        sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
        sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
        if (quad() == 0) partial.offsets[t][lane() / 4 + 8 * r] = sum;
      }
    }
  }
}

// Adds what all warps have left, in order, and writes the rows of a matrix's tile.
template <class Format, unsigned kTokens>
__device__ void finish(const FewTokens& p, const FewTokensMatrix& m, unsigned tile,
                       const Partial<Format, kTokens> (&partials)[kMostWarps]) {
  constexpr unsigned kPairs = 2 * kParts<Format>;  // of a token
  const unsigned in_tile = lane() % kRows;
  const unsigned row = tile * kRows + in_tile;
  for (unsigned token = lane() / kRows; token < p.tokens; token += 32 / kRows) {
    float total = 0.0F;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) {
#pragma unroll
      for (unsigned k = 0; k < kPairs; ++k) {
        total += partials[w].pairs[token * kPairs + k][in_tile];
      }
      if constexpr (kHasOffsets<Format>) total += partials[w].offsets[token][in_tile];
    }
    if (row >= m.rows) continue;
    total *= m.factor;
    if (m.bias != nullptr) total += m.bias[row];
    float* y = m.y + token * m.y_stride + row;
    *y = m.accumulate ? *y + total : total;
  }
}

// The unit that a thread decodes as its i-th of a group, and where its elements begin. Fours of
// units do not cross blocks of 256 elements: there, what follows from i is known when this is
// compiled.
template <class Format>
struct Unit {
  static constexpr unsigned kUnits = Format::kElements / 16;
  unsigned block;
  int unit;

  __device__ explicit Unit(unsigned i)
      : block(kUnits == 16 ? 0 : (4 * i + quad()) / kUnits),
        unit(static_cast<int>(4 * i + quad() - block * kUnits)) {}
  __device__ unsigned first() const {
    return block * Format::kElements + static_cast<unsigned>(Format::first(unit));
  }
};

struct GroupAndNext {
  unsigned now, next;
};

__device__ const uint4 kNoDigits[kGroup / sizeof(uint4)] = {};

// Which digits a thread multiplies with, and what its sums stand for. Where a column has none for
// its units, it reads zeros.
template <class Format, unsigned kTokens>
struct Columns {
  const std::int8_t* digits[kTiles<Format, kTokens>];      // of group 0, of the column in b
  const std::int8_t* sum_digits[kTiles<Format, kTokens>];  // likewise, from this thread's word on
  unsigned step[kTiles<Format, kTokens>];  // from one group to the next; nothing for zeros
  unsigned sum_step[kTiles<Format, kTokens>];
  const DigitRecord* records[kTiles<Format, kTokens>];  // of the token of the columns in c
  float powers[2];                                      // of 256, of the columns in c
  static constexpr bool kAhead = kTiles<Format, kTokens> == 1;
  uint2 ahead[8];

  __device__ explicit Columns(const FewTokens& p) {
    const unsigned groups = (p.cols + kGroup - 1) / kGroup;
    const auto* first = reinterpret_cast<const DigitRecord*>(p.x);
    const auto of_token = [&](unsigned token) {
      return first + (token < p.tokens ? token : 0) * groups;
    };
    const unsigned digit = lane() / 4 % 4;
    powers[0] = quad() % 2 == 0 ? 1.0F : 0x1p16F;
    powers[1] = quad() % 2 == 0 ? 0x1p8F : 0x1p24F;
#pragma unroll
    for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
      const unsigned four = 2 * i + lane() / 16;
      const unsigned token = four / kParts<Format>;
      const bool used =
          token < p.tokens && four % kParts<Format> == quad() / Format::kUnitsPerScale;
      const DigitRecord* record = of_token(token);
      const auto* none = reinterpret_cast<const std::int8_t*>(kNoDigits);
      const bool has_digits = used && digit < kDigits;
      const bool has_sums = used && quad() < 2;
      digits[i] = has_digits ? record->digits[digit] : none;
      sum_digits[i] = has_sums ? record->sum_digits[digit] + 4 * quad() : none;
      step[i] = has_digits ? sizeof(DigitRecord) : 0;
      sum_step[i] = has_sums ? sizeof(DigitRecord) : 0;
      records[i] = of_token((2 * i + quad() / 2) / kParts<Format>);
    }
  }

  // What load() will be asked for first, if that is not too much for the registers.
  __device__ void expect(unsigned group) {
    if constexpr (kAhead) {
#pragma unroll
      for (unsigned i = 0; i < 8; ++i) {
        const unsigned element = Unit<Format>(i / 2).first() + i % 2 * Format::kSecond;
        ahead[i] = at(0, group, element);
      }
    }
  }
  // Of a group; and asks for the same of the one that comes next.
  __device__ uint2 load(unsigned tile, GroupAndNext group, unsigned unit, unsigned run,
                        unsigned element) {
    if constexpr (!kAhead) return at(tile, group.now, element);
    const uint2 loaded = ahead[2 * unit + run];
    ahead[2 * unit + run] = at(0, group.next, element);
    return loaded;
  }
  // Where it stands: a compiler would put it off until it is needed. (Not through the cache for
  // what is constant: the kernel before wrote it after this one had begun.)
  __device__ uint2 at(unsigned tile, unsigned group, unsigned element) const {
    uint2 v;
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];\n"
                 : "=r"(v.x), "=r"(v.y)
                 : "l"(digits[tile] + group * step[tile] + element));
    return v;
  }
  __device__ std::uint32_t load_sums(unsigned tile, unsigned group) const {
    return *reinterpret_cast<const std::uint32_t*>(sum_digits[tile] + group * sum_step[tile]);
  }
};

// The scale of the units whose sums a thread has in a tile.
template <class Format>
__device__ float scale_of_columns(float own, unsigned tile) {
  if constexpr (kParts<Format> < 4) return own;
  return __shfl_sync(0xFFFFFFFFU, own, static_cast<int>((2 * tile + quad() / 2) % 4), 4);
}

// Sixteen rows times the run of every thread's unit.
template <class Format, unsigned kTokens>
__device__ void add_run(const Run& upper, const Run& lower, Columns<Format, kTokens>& columns,
                        GroupAndNext group, unsigned unit, unsigned run, unsigned element,
                        float (&sums)[kTiles<Format, kTokens>][4]) {
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
    const float scales[2] = {scale_of_columns<Format>(upper.scale, i),
                             scale_of_columns<Format>(lower.scale, i)};
    int c[4];
    multiply_codes<Format>(upper, lower, columns.load(i, group, unit, run, element),
                           kIntegerAsFloat, c);
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) sums[i][e] += as_float(c[e]) * scales[e / 2];
  }
}

// The same in integers. A block's sums stay below 2^31: with digits of at most 128, those of Q4_K's
// second runs are at most 128 codes of 240 * 63, of Q5_K 256 of 31 * 63, of Q6_K 256 of 32 * 128.
template <class Format, unsigned kTokens>
__device__ void add_run(const IntegerRun& upper, const IntegerRun& lower,
                        Columns<Format, kTokens>& columns, GroupAndNext group, unsigned unit,
                        unsigned run, unsigned element, int (&sums)[kTiles<Format, kTokens>][4]) {
  static_assert(kParts<Format> < 4);
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
    int c[4];
    multiply_codes<Format>(upper, lower, columns.load(i, group, unit, run, element), 0, c);
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) sums[i][e] += c[e] * (e < 2 ? upper : lower).scale;
  }
}

// A block's eight minima times the sums of the inputs that they are taken from.
template <class Format, unsigned kTokens, class Header>
__device__ void subtract_minima(const Header (&headers)[2], Columns<Format, kTokens>& columns,
                                unsigned group, float (&sums)[kTiles<Format, kTokens>][4]) {
  std::uint32_t a[4] = {};
#pragma unroll
  for (unsigned r = 0; r < 2; ++r) {
    a[r] = quad() % 2 == 0 ? headers[r].minima[0] : headers[r].minima[1];
  }
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
    int c[4];
    multiply_bytes<false>(a, {columns.load_sums(i, group), 0}, kIntegerAsFloat, c);
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) sums[i][e] -= as_float(c[e]) * headers[e / 2].d_minimum;
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
                          float (&scaled)[kTiles<Format, kTokens>][4]) {
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    const Unit<Format> at(i);
    // Beyond the end of a row, digits are zero: any block will do.
    const unsigned left = p.cols / Format::kElements - group.now * (kGroup / Format::kElements);
    const auto block = static_cast<int>(at.block < left ? at.block : 0);
    Run runs[2][2];
#pragma unroll
    for (unsigned r = 0; r < 2; ++r) {
      decode_unit<Format, kAlign>(rows[r] + block * Format::kBytes, at.unit, book, headers[r],
                                  runs[r]);
    }
#pragma unroll
    for (unsigned run = 0; run < 2; ++run) {
      const unsigned element = at.first() + run * Format::kSecond;
      add_run<Format, kTokens>(runs[0][run], runs[1][run], columns, group, i, run, element, scaled);
      if constexpr (kHasOffsets<Format>) {
        add_offsets(p, runs[0][run], runs[1][run], group.now, element, sums);
      }
    }
  }
}

// The same in integers; a group is a block.
template <class Format, unsigned kTokens, int kAlign, class Headers>
__device__ void add_integer_units(const SharedBytes<kAlign> (&rows)[2], GroupAndNext group,
                                  Columns<Format, kTokens>& columns, const Headers& headers,
                                  float (&scaled)[kTiles<Format, kTokens>][4]) {
  int sums[2][kTiles<Format, kTokens>][4] = {};
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    const Unit<Format> at(i);
    IntegerRun runs[2][2];
#pragma unroll
    for (unsigned r = 0; r < 2; ++r) {
      decode_unit<Format, kAlign>(rows[r], at.unit, NoBook{}, headers[r], runs[r]);
    }
#pragma unroll
    for (unsigned run = 0; run < 2; ++run) {
      const unsigned element = at.first() + run * Format::kSecond;
      add_run<Format, kTokens>(runs[0][run], runs[1][run], columns, group, i, run, element,
                               sums[Format::kSecondFactor == 1 ? 0 : run]);
    }
  }
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) {
      float sum = static_cast<float>(sums[0][i][e]);
      if constexpr (Format::kSecondFactor != 1) {
        sum += static_cast<float>(sums[1][i][e]) * (1.0F / Format::kSecondFactor);
      }
      scaled[i][e] = sum * headers[e / 2].d;
    }
  }
}

// The 256 columns of a group; `rows` begin with it.
template <class Format, unsigned kTokens, int kAlign, class Book>
__device__ void add_group(const FewTokens& p, const SharedBytes<kAlign> (&rows)[2],
                          GroupAndNext group, Columns<Format, kTokens>& columns, const Book& book,
                          Sums<Format, kTokens>& sums) {
  float scaled[kTiles<Format, kTokens>][4] = {};
  using Header = decltype(block_header<Format, kAlign>(rows[0]));
  const Header headers[2] = {block_header<Format, kAlign>(rows[0]),
                             block_header<Format, kAlign>(rows[1])};
  if constexpr (kHasIntegers<Format>) {
    add_integer_units<Format, kTokens>(rows, group, columns, headers, scaled);
  } else {
    add_units<Format, kTokens>(p, rows, group, columns, book, headers, sums, scaled);
  }
  if constexpr (kHasMinima<Format>) {
    subtract_minima<Format, kTokens>(headers, columns, group.now, scaled);
  }
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
    const float factor = columns.records[i][group.now].factor;
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) {
      sums.columns[i][e] += scaled[i][e] * (factor * columns.powers[e % 2]);
    }
  }
}

constexpr unsigned kBuffers = 2;

template <class Format, Way kWay, unsigned kTokens>
struct SharedMemory {
  Stage<Format, kWay> stages[kMostWarps][kStages<Format, kWay>];
  Partial<Format, kTokens> partials[kBuffers][kMostWarps];  // of a tile, and of the next
  std::uint64_t barriers[kMostWarps][kStages<Format, kWay>];
};

// The warps of a block finish its tiles in turn; the others leave their sums and go on, until they
// would have to leave some where those of kBuffers tiles ago have not been read. By named barriers:
// one for each buffer that has been filled, one for each that has been read.
template <class Format, unsigned kTokens>
__device__ void end_tile(const FewTokens& p, const FewTokensMatrix& m, unsigned tile,
                         unsigned count, const Sums<Format, kTokens>& sums,
                         Partial<Format, kTokens> (&partials)[kBuffers][kMostWarps]) {
  const unsigned warp = threadIdx.x / 32;
  const unsigned warps = blockDim.x / 32;
  const unsigned buffer = count % kBuffers;
  const unsigned filled = 1 + buffer;
  const unsigned read = 1 + kBuffers + buffer;
  if (count >= kBuffers) {
    // Whoever has read it has passed already.
    if ((count - kBuffers) % warps != warp) hopper::wait_named(read, blockDim.x);
  }
  leave(sums, partials[buffer][warp]);
  if (count % warps == warp) {
    hopper::wait_named(filled, blockDim.x);
    finish(p, m, tile, partials[buffer]);
    hopper::pass_named(read, blockDim.x);
  } else {
    hopper::pass_named(filled, blockDim.x);
  }
}

template <class Format, Way kWay, unsigned kTokens>
__global__ void __launch_bounds__(32 * kMostWarps, kBlocksPerMultiprocessor<kTokens>)
    multiply_units(const __grid_constant__ FewTokens p) {
#if __CUDA_ARCH__ < 900
  if constexpr (kWay == Way::mapped) return;  // map_rows makes no map for such a GPU
#endif
  extern __shared__ __align__(128) uint4 dynamic[];
  auto& memory = *reinterpret_cast<SharedMemory<Format, kWay, kTokens>*>(dynamic);
  using Bytes = SharedBytes<kBlocksAt<Format, kWay>>;
  constexpr unsigned kDepth = kStages<Format, kWay>;
  const auto& book = shared_book<Format>();
  const Copies<Format, kWay> copies(memory.stages[threadIdx.x / 32],
                                    memory.barriers[threadIdx.x / 32]);
  Cursor<Format> ahead(p);
#pragma unroll
  for (unsigned i = 0; i + 1 < kDepth; ++i) {
    copies.ask(p, ahead, i);
    ahead.advance(p);
  }
  // Weights were there before; inputs are what the kernel before leaves.
  begin_after_others();
  Columns<Format, kTokens> columns(p);
  columns.expect(Cursor<Format>::first_group());
  Sums<Format, kTokens> sums;
  unsigned slot = 0;
  unsigned round = 0;
  unsigned count = 0;
  for (Cursor<Format> at(p); !at.ended(p);) {
    __syncwarp();  // all have read what the next copies overwrite
    copies.ask(p, ahead, slot == 0 ? kDepth - 1 : slot - 1);
    ahead.advance(p);
    copies.wait(slot, round);
    const Bytes rows[2] = {Bytes(copies.row(p, at, slot, lane() / 4)),
                           Bytes(copies.row(p, at, slot, lane() / 4 + 8))};
    const unsigned following = at.following(p);
    if (kTogether<Format> == 1 || (at.group + 1) * kGroup >= p.cols) {
      add_group<Format, kTokens>(p, rows, {at.group, following}, columns, book, sums);
    } else {
      add_group<Format, kTokens>(p, rows, {at.group, at.group + 1}, columns, book, sums);
      constexpr int kNext = kGroupBytes<Format>;
      const Bytes next[2] = {rows[0] + kNext, rows[1] + kNext};
      add_group<Format, kTokens>(p, next, {at.group + 1, following}, columns, book, sums);
    }
    if (++slot == kDepth) slot = 0, ++round;
    const unsigned matrix = at.matrix;
    const unsigned tile = at.tile;
    if (at.advance(p)) {
      end_tile(p, p.matrices[matrix], tile, count++, sums, memory.partials);
      sums = Sums<Format, kTokens>();
    }
  }
}

template <class Format, Way kWay, unsigned kTokens>
void launch(const FewTokens& p, unsigned multiprocessors, cudaStream_t stream) {
  constexpr std::size_t kShared = sizeof(SharedMemory<Format, kWay, kTokens>);
  const auto kernel = multiply_units<Format, kWay, kTokens>;
  static std::atomic<std::uint64_t> allowed{0};
  allow_shared(kernel, kShared, allowed);
  unsigned tiles = 0;
  for (unsigned i = 0; i < p.count; ++i) tiles += blocks_for(p.matrices[i].rows, kRows);
  const unsigned most = multiprocessors * kBlocksPerMultiprocessor<kTokens>;
  const unsigned threads = 32 * warps_for(blocks_for(p.cols, kGroup * kTogether<Format>));
  const unsigned grid = tiles < most ? tiles : most;
  launch_early(kernel, {grid, threads, kShared, stream}, p);
}

template <class Format, unsigned kTokens>
void multiply_units(const FewTokens& p, unsigned multiprocessors, cudaStream_t stream) {
  FewTokens mapped = p;
  if (map_rows(mapped, Stage<Format, Way::mapped>::kStride, kRows, kWhole<Format> ? 1 : 4)) {
    launch<Format, Way::mapped, kTokens>(mapped, multiprocessors, stream);
  } else {
    launch<Format, Way::plain, kTokens>(p, multiprocessors, stream);
  }
}

template <class Format>
void multiply_units(const FewTokens& p, unsigned multiprocessors, cudaStream_t stream) {
  if (p.tokens == 1) return multiply_units<Format, 1>(p, multiprocessors, stream);
  multiply_units<Format, static_cast<unsigned>(kMostFewTokens)>(p, multiprocessors, stream);
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda
