// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/digits.cuh"
#include "cuda/few_tokens.hpp"
#include "cuda/launch.hpp"
#include "cuda/units.cuh"
#include "kernels/error.hpp"

// The product of a few tokens with the rows of a quantised matrix, by the tensor cores' integers:
// codes are bytes, and activations are digits (kernels/cuda/digits.hpp), each digit of each token a
// column. So all that is done for a weight itself is to bring its code into a byte.

namespace tensor_pager::kernels::cuda {
namespace {

// A block's warps share sixteen rows: each takes groups of 256 columns in turn. How many there are
// is part of the definition of a product's bits.
constexpr unsigned kWarps = 8;
constexpr unsigned kThreads = 32 * kWarps;
constexpr unsigned kRows = 16;

// Of eight columns.
template <unsigned kTokens>
constexpr unsigned kTiles = (kDigits * kTokens + 7) / 8;

// The sum of two integers below 2^22 and this, as a float, is the float 1.5 * 2^23 and their sum.
constexpr int kIntegerAsFloat = 0x4B400000;
constexpr float kShift = 12582912.0F;

// c = kIntegerAsFloat + a b: a [16, 32] bytes by row, b [32, 8] by column. Thread l holds of a row
// l / 4 in words 0 and 2 and row l / 4 + 8 in 1 and 3; of b column l / 4; of c the rows of its a
// and columns 2 (l % 4) and one more. Which of the 32 its bytes are does not matter, as long as
// they are the same in a and b. (PTX manual, "Matrix fragments for mma.m16n8k32".)
__device__ inline void multiply_bytes(const std::uint32_t (&a)[4], uint2 b, int (&c)[4]) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%10, %10, %10, %10};\n"
      : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(kIntegerAsFloat));
}

// Code - kBias of four bytes, signed.
template <int kBias>
__device__ inline std::uint32_t signed_bytes(std::uint32_t codes) {
  if constexpr (kBias == 0) return codes;  // below 128
  constexpr std::uint32_t kUp = (128U - kBias) * 0x01010101U;
  return (codes + kUp) ^ 0x80808080U;
}

template <class Format>
__device__ void signed_codes(const Run& run, std::uint32_t& low, std::uint32_t& high) {
  low = signed_bytes<Format::kBias>(run.codes.low);
  high = signed_bytes<Format::kBias>(run.codes.high);
}

// What a thread sums up: of its columns of each tile, and for its own units of each token.
template <unsigned kTokens>
struct Sums {
  float columns[kTiles<kTokens>][4] = {};
  float offsets[kTokens][2] = {};
};

// Adds the columns of all warps, the most significant digit first, and writes the rows. All threads
// take part.
template <unsigned kTokens, bool kAffine>
__device__ void finish(const FewTokens& p, const Sums<kTokens>& sums) {
  constexpr unsigned kColumns = 8 * kTiles<kTokens>;
  __shared__ float columns[kWarps][kRows][kColumns];
  __shared__ float offsets[kWarps][kRows][kTokens];
  const unsigned warp = threadIdx.x / 32;
  const unsigned lane = threadIdx.x % 32;
#pragma unroll
  for (unsigned i = 0; i < kTiles<kTokens>; ++i) {
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) {
      columns[warp][lane / 4 + e / 2 * 8][8 * i + 2 * (lane % 4) + e % 2] = sums.columns[i][e];
    }
  }
  if constexpr (kAffine) {
#pragma unroll
    for (unsigned t = 0; t < kTokens; ++t) {
#pragma unroll
      for (unsigned r = 0; r < 2; ++r) {
        float sum = sums.offsets[t][r];
        sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
        sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
        if (lane % 4 == 0) offsets[warp][lane / 4 + 8 * r][t] = sum;
      }
    }
  }
  __syncthreads();
  const unsigned row = blockIdx.x * kRows + threadIdx.x % kRows;
  const unsigned token = threadIdx.x / kRows;
  if (token >= p.tokens || row >= p.rows) return;
  float total = 0.0F;
  for (unsigned w = 0; w < kWarps; ++w) {
    const float* own = columns[w][threadIdx.x % kRows] + kDigits * token;
    total += own[2] + (own[1] + own[0]);
    if constexpr (kAffine) total += offsets[w][threadIdx.x % kRows][token];
  }
  total *= p.factor;
  if (p.bias != nullptr) total += p.bias[row];
  float* y = p.y + token * p.y_stride + row;
  *y = p.accumulate ? *y + total : total;
}

// The row of the group, or the last one again where there are no more.
__device__ const std::uint8_t* row_at(const FewTokens& p, unsigned row) {
  return p.w + (row < p.rows ? row : p.rows - 1) * p.row_bytes;
}

// What a thread needs to find the digits of its column of each tile.
template <unsigned kTokens>
struct Columns {
  const std::int8_t* digits[kTiles<kTokens>];  // of group 0; null beyond the last token
  const float* factors[kTiles<kTokens>][2];    // of the columns whose sums it has
  float powers[kTiles<kTokens>][2];            // of 256; zero beyond the last token

  __device__ explicit Columns(const FewTokens& p) {
    const unsigned lane = threadIdx.x % 32;
    const unsigned records = (p.cols + kGroup - 1) / kGroup;
    const auto* first = reinterpret_cast<const DigitRecord*>(p.x);
#pragma unroll
    for (unsigned i = 0; i < kTiles<kTokens>; ++i) {
      const unsigned column = 8 * i + lane / 4;
      const unsigned token = column / kDigits;
      digits[i] = token < p.tokens ? first[token * records].digits[column % kDigits] : nullptr;
#pragma unroll
      for (unsigned k = 0; k < 2; ++k) {
        const unsigned own = 8 * i + 2 * (lane % 4) + k;
        const unsigned of = own / kDigits < p.tokens ? own / kDigits : 0;
        factors[i][k] = &first[of * records].factor;
        const float power = own % kDigits == 0 ? 1.0F : own % kDigits == 1 ? 256.0F : 65536.0F;
        powers[i][k] = own / kDigits < p.tokens ? power : 0.0F;
      }
    }
  }
};

// Sixteen rows times the run of every thread's unit. Threads of a quad whose units have scales of
// their own are multiplied one after the other, the others' activations being zero.
template <class Format, unsigned kTokens>
__device__ void add_run(const Run& upper, const Run& lower, const Columns<kTokens>& columns,
                        std::size_t element, float (&sums)[kTiles<kTokens>][4]) {
  constexpr unsigned kSame = Format::kUnitsPerScale;
  const unsigned lane = threadIdx.x % 32;
  std::uint32_t a[4];
  signed_codes<Format>(upper, a[0], a[2]);
  signed_codes<Format>(lower, a[1], a[3]);
  uint2 b[kTiles<kTokens>];
#pragma unroll
  for (unsigned i = 0; i < kTiles<kTokens>; ++i) {
    b[i] = {0, 0};
    if (columns.digits[i] != nullptr) {
      b[i] = __ldg(reinterpret_cast<const uint2*>(columns.digits[i] + element));
    }
  }
#pragma unroll
  for (unsigned same = 0; same < 4 / kSame; ++same) {
    float scales[2] = {upper.scale, lower.scale};
    if constexpr (kSame < 4) {
#pragma unroll
      for (float& scale : scales) {
        scale = __shfl_sync(0xFFFFFFFFU, scale, static_cast<int>(same * kSame), 4);
      }
    }
    const bool own = kSame == 4 || lane % 4 / kSame == same;
#pragma unroll
    for (unsigned i = 0; i < kTiles<kTokens>; ++i) {
      int c[4];
      multiply_bytes(a, own ? b[i] : uint2{0, 0}, c);
#pragma unroll
      for (unsigned e = 0; e < 4; ++e) {
        sums[i][e] += (__int_as_float(c[e]) - kShift) * scales[e / 2];
      }
    }
  }
}

// The 256 columns of a group.
template <class Format, int kAlign, unsigned kTokens, class Book>
__device__ void add_group(const FewTokens& p, const std::uint8_t* const (&rows)[2], unsigned group,
                          const Columns<kTokens>& columns, const Book& book, Sums<kTokens>& sums) {
  constexpr unsigned kUnits = Format::kElements / 16;
  const unsigned blocks = p.cols / Format::kElements;
  const unsigned quad = threadIdx.x % 4;
  const std::size_t record = std::size_t{group} * sizeof(DigitRecord);
  float scaled[kTiles<kTokens>][4] = {};
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned in_group = (4 * i + quad) / kUnits;
    const int unit = static_cast<int>((4 * i + quad) % kUnits);
    // Beyond the end of a row, digits are zero: any block will do.
    const unsigned wanted = group * (kGroup / Format::kElements) + in_group;
    const std::size_t block = wanted < blocks ? wanted : blocks - 1;
    Run runs[2][2];
#pragma unroll
    for (unsigned r = 0; r < 2; ++r) {
      decode_unit<Format, kAlign>(rows[r] + block * Format::kBytes, unit, book, runs[r]);
    }
    const unsigned first =
        in_group * Format::kElements + static_cast<unsigned>(Format::first(unit));
#pragma unroll
    for (unsigned run = 0; run < 2; ++run) {
      const unsigned element = first + run * Format::kSecond;
      add_run<Format, kTokens>(runs[0][run], runs[1][run], columns, record + element, scaled);
      if constexpr (Format::kAffine) {
        const unsigned records = (p.cols + kGroup - 1) / kGroup;
#pragma unroll
        for (unsigned t = 0; t < kTokens; ++t) {
          if (kTokens > 1 && t >= p.tokens) break;
          const auto* x = reinterpret_cast<const DigitRecord*>(p.x) + t * records + group;
          const float sum = __ldg(x->sums + element / 8);
          sums.offsets[t][0] += runs[0][run].offset * sum;
          sums.offsets[t][1] += runs[1][run].offset * sum;
        }
      }
    }
  }
#pragma unroll
  for (unsigned i = 0; i < kTiles<kTokens>; ++i) {
    float factors[2];
#pragma unroll
    for (unsigned k = 0; k < 2; ++k) {
      const auto* at = reinterpret_cast<const std::byte*>(columns.factors[i][k]) + record;
      factors[k] = columns.powers[i][k] * __ldg(reinterpret_cast<const float*>(at));
    }
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) sums.columns[i][e] += scaled[i][e] * factors[e % 2];
  }
}

template <class Format, int kAlign, unsigned kTokens>
__global__ void __launch_bounds__(kThreads) multiply_units(const FewTokens p) {
  const auto& book = shared_book<Format, kThreads>();
  const unsigned first = blockIdx.x * kRows + threadIdx.x % 32 / 4;
  const std::uint8_t* const rows[2] = {row_at(p, first), row_at(p, first + 8)};
  const Columns<kTokens> columns(p);
  const unsigned groups = (p.cols + kGroup - 1) / kGroup;
  Sums<kTokens> sums;
  for (unsigned group = threadIdx.x / 32; group < groups; group += kWarps) {
    add_group<Format, kAlign, kTokens>(p, rows, group, columns, book, sums);
  }
  finish<kTokens, Format::kAffine>(p, sums);
}

inline bool aligned(const void* p, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}

template <class Format, unsigned kTokens>
void multiply_units(const FewTokens& p, cudaStream_t stream) {
  const unsigned grid = blocks_for(p.rows, kRows);
  constexpr int kAlign = kBlockAlignment<Format>;
  if (aligned(p.w, kAlign)) {
    multiply_units<Format, kAlign, kTokens><<<grid, kThreads, 0, stream>>>(p);
  } else {
    multiply_units<Format, kLeastAlignment<Format>, kTokens><<<grid, kThreads, 0, stream>>>(p);
  }
}

template <class Format>
void multiply_units(const FewTokens& p, cudaStream_t stream) {
  if (p.tokens == 1) return multiply_units<Format, 1>(p, stream);
  multiply_units<Format, static_cast<unsigned>(kMostFewTokens)>(p, stream);
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda
