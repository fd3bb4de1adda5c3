// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/launch.hpp"
#include "cuda/matvec.hpp"
#include "cuda/units.cuh"
#include "kernels/error.hpp"

// The product of one token with the rows of a quantised matrix.

namespace tensor_pager::kernels::cuda {
namespace {

// A block's threads share the columns of kRows rows: inputs are read once for all of them, and even
// a matrix of few rows keeps many loads under way.
constexpr unsigned kThreads = 128;
constexpr unsigned kRows = 4;

// Adds up the threads' sums in a fixed order and writes them. All threads take part.
__device__ void finish(const MatvecArguments& p, unsigned first_row, float (&sums)[kRows]) {
  __shared__ float warps[kThreads / 32][kRows];
#pragma unroll
  for (unsigned r = 0; r < kRows; ++r) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      sums[r] += __shfl_xor_sync(0xFFFFFFFFU, sums[r], distance);
    }
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32][r] = sums[r];
  }
  __syncthreads();
  const unsigned row = first_row + threadIdx.x;
  if (threadIdx.x >= kRows || row >= p.rows) return;
  float total = 0.0F;
#pragma unroll
  for (unsigned i = 0; i < kThreads / 32; ++i) total += warps[i][threadIdx.x];
  total *= p.factor;
  if (p.bias != nullptr) total += p.bias[row];
  p.y[row] = p.accumulate ? p.y[row] + total : total;
}

// The row of the group, or the last one again where there are no more.
__device__ const std::uint8_t* row_at(const MatvecArguments& p, unsigned row) {
  return p.w + (row < p.rows ? row : p.rows - 1) * p.row_bytes;
}

__device__ void load_eight(const float* x, float (&v)[8]) {
  const float4 a = reinterpret_cast<const float4*>(x)[0];
  const float4 b = reinterpret_cast<const float4*>(x)[1];
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
  v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}

template <class Format, int kAlign>
__global__ void __launch_bounds__(kThreads) unit_product(const MatvecArguments p) {
  constexpr unsigned kUnits = Format::kElements / 16;
  const auto& book = shared_book<Format, kThreads>();
  const unsigned first_row = blockIdx.x * kRows;
  float sums[kRows] = {};
  for (unsigned i = threadIdx.x; i < p.cols / 16; i += kThreads) {
    const unsigned block = i / kUnits;
    const int unit = static_cast<int>(i % kUnits);
    const float* x = p.x + block * Format::kElements + Format::first(unit);
    float inputs[2][8];
    load_eight(x, inputs[0]);
    load_eight(x + Format::kSecond, inputs[1]);
    float input_sums[2] = {};
    if constexpr (Format::kAffine) {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        input_sums[0] += inputs[0][e];
        input_sums[1] += inputs[1][e];
      }
    }
#pragma unroll
    for (unsigned r = 0; r < kRows; ++r) {
      Run runs[2];
      decode_unit<Format, kAlign>(row_at(p, first_row + r) + std::size_t{block} * Format::kBytes,
                                  unit, book, runs);
#pragma unroll
      for (int run = 0; run < 2; ++run) {
        float codes[8];
        to_floats<Format::kBias>(runs[run].codes, codes);
        float dot = 0.0F;
#pragma unroll
        for (int e = 0; e < 8; ++e) dot += codes[e] * inputs[run][e];
        sums[r] += runs[run].scale * dot;
        if constexpr (Format::kAffine) sums[r] += runs[run].offset * input_sums[run];
      }
    }
  }
  finish(p, first_row, sums);
}

bool aligned(const void* p, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}

template <class Format>
void matvec_units(const MatvecArguments& p, cudaStream_t stream) {
  if (!aligned(p.x, 16)) {
    throw Error("cuda matmul: the inputs of a quantised product must begin at a multiple of 16");
  }
  const unsigned grid = blocks_for(p.rows, kRows);
  constexpr int kAlign = kBlockAlignment<Format>;
  if (aligned(p.w, kAlign)) {
    unit_product<Format, kAlign><<<grid, kThreads, 0, stream>>>(p);
  } else {
    unit_product<Format, kLeastAlignment<Format>><<<grid, kThreads, 0, stream>>>(p);
  }
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda
