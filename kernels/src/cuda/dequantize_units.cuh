// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/launch.hpp"
#include "cuda/rounding.cuh"
#include "cuda/units.cuh"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kUnitThreads = 256;

// Copying a code book into shared memory has to pay.
template <class Format>
constexpr unsigned kUnitsPerThread = kHasBook<Format> ? 4 : 1;

__device__ void store_run(float* out, const float (&v)[8]) {
  reinterpret_cast<float4*>(out)[0] = {v[0], v[1], v[2], v[3]};
  reinterpret_cast<float4*>(out)[1] = {v[4], v[5], v[6], v[7]};
}

template <class Out>
__device__ void store_run(Out* out, const float (&v)[8]) {
  store_together<8>(out, v);
}

// Units of 16 elements. Threads that follow each other write eight elements that follow each other,
// so every sector is written as a whole.
template <class Format, int kAlign, class Out>
__global__ void __launch_bounds__(kUnitThreads)
    unit_kernel(const std::uint8_t* __restrict__ blocks, Out* __restrict__ out, unsigned units) {
  constexpr unsigned kUnits = Format::kElements / 16;
  const auto& book = shared_book<Format>();
  unsigned i = blockIdx.x * kUnitThreads * kUnitsPerThread<Format> + threadIdx.x;
#pragma unroll
  for (unsigned n = 0; n < kUnitsPerThread<Format>; ++n, i += kUnitThreads) {
    if (i >= units) return;
    const std::size_t block = i / kUnits;
    const int unit = static_cast<int>(i % kUnits);
    Run runs[2];
    decode_unit<Format, kAlign>(blocks + block * Format::kBytes, unit, book, runs);
    Out* at = out + block * Format::kElements + Format::first(unit);
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      float eight[8];
      values<Format>(runs[run], eight);
      store_run(at + run * Format::kSecond, eight);
    }
  }
}

template <class Format, class Out>
void dequantize_units(const std::byte* in, Out* out, std::size_t elements, cudaStream_t stream) {
  const auto* blocks = reinterpret_cast<const std::uint8_t*>(in);
  const auto units = static_cast<unsigned>(elements / 16);
  const unsigned grid = blocks_for(units, kUnitThreads * kUnitsPerThread<Format>);
  constexpr int kAlign = kBlockAlignment<Format>;
  if (reinterpret_cast<std::uintptr_t>(in) % kAlign == 0) {
    unit_kernel<Format, kAlign><<<grid, kUnitThreads, 0, stream>>>(blocks, out, units);
  } else {
    unit_kernel<Format, kLeastAlignment<Format>>
        <<<grid, kUnitThreads, 0, stream>>>(blocks, out, units);
  }
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda
