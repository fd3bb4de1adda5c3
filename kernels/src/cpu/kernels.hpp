// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu/attention_tile.hpp"
#include "cpu/exponential.hpp"
#include "cpu/format_kernels.hpp"
#include "cpu/formats.hpp"
#include "cpu/kernel_table.hpp"

// The kernels that are compiled once per instruction set, as templates over the vector type that a
// lanes_*.hpp defines before this file is included. Everything here is in an unnamed namespace and
// calls no inline function of the standard library: the linker keeps one copy of an inline function
// for the whole program, and must not find one made of AVX-512 instructions.

namespace tensor_pager::kernels::cpu {
namespace {

// One step along the inputs: kLanes of them, for kRowGroup rows and kTokens tokens.
template <std::size_t kTokens>
TENSOR_PAGER_INLINE void dot_step(Vec (&sums)[kTokens][kRowGroup], const float* weights,
                                  const float* x, std::size_t x_stride) {
  Vec token[kTokens];
#pragma GCC unroll 8
  for (std::size_t t = 0; t < kTokens; ++t) token[t] = load(x + t * x_stride);
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kRowGroup; ++r) {
    const Vec w = load(weights + r * kChunk);
#pragma GCC unroll 8
    for (std::size_t t = 0; t < kTokens; ++t) sums[t][r] = multiply_add(w, token[t], sums[t][r]);
  }
}

template <std::size_t kTokens>
void dot_tile_of(const DotTile& tile) {
  Vec sums[kTokens][kRowGroup];
#pragma GCC unroll 8
  for (std::size_t t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
    for (std::size_t r = 0; r < kRowGroup; ++r) sums[t][r] = broadcast(0.0F);
  }
  const std::size_t whole = tile.elements / 16 * 16;
  for (std::size_t k = 0; k < whole; k += kLanes) {
    dot_step<kTokens>(sums, tile.weights + k, tile.x + k, tile.x_stride);
  }
  if (whole < tile.elements) {
    float tail[kTokens * 16] = {};
    for (std::size_t t = 0; t < kTokens; ++t) {
      std::memcpy(tail + 16 * t, tile.x + t * tile.x_stride + whole,
                  (tile.elements - whole) * sizeof(float));
    }
    for (std::size_t k = 0; k < 16; k += kLanes) {
      dot_step<kTokens>(sums, tile.weights + whole + k, tail + k, 16);
    }
  }
#pragma GCC unroll 8
  for (std::size_t t = 0; t < kTokens; ++t) {
    add_sums(tile.totals + t * tile.totals_stride, sums[t][0], sums[t][1], sums[t][2], sums[t][3]);
  }
}

template <std::size_t kTokens = kTokenTile>
void dot_tile(const DotTile& tile) {
  if (tile.tokens == kTokens) return dot_tile_of<kTokens>(tile);
  if constexpr (kTokens > 1) dot_tile<kTokens - 1>(tile);
}

TENSOR_PAGER_INLINE void swiglu_lanes(const float* gate, const float* up, float* out) {
  const Vec g = load(gate);
  const Vec denominator = add(broadcast(1.0F), exponential(sub(broadcast(0.0F), g)));
  store(out, mul(div(g, denominator), load(up)));
}

inline void swiglu_row(const float* gate, const float* up, float* out, std::size_t n) {
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) swiglu_lanes(gate + i, up + i, out + i);
  if (i == n) return;
  float tail[3][kLanes] = {};
  std::memcpy(tail[0], gate + i, (n - i) * sizeof(float));
  std::memcpy(tail[1], up + i, (n - i) * sizeof(float));
  swiglu_lanes(tail[0], tail[1], tail[2]);
  std::memcpy(out + i, tail[2], (n - i) * sizeof(float));
}

// `low_bit` are those of the same instruction set.
constexpr KernelTable make_kernel_table(const LowBitKernels& low_bit) {
  return {.f32 = make_format_kernels<F32>(),
          .f16 = make_format_kernels<F16>(),
          .bf16 = make_format_kernels<Bf16>(),
          .q4_0 = make_format_kernels<Q4_0>(),
          .q4_1 = make_format_kernels<Q4_1>(),
          .q5_0 = make_format_kernels<Q5_0>(),
          .q5_1 = make_format_kernels<Q5_1>(),
          .q8_0 = make_format_kernels<Q8_0>(),
          .q2_k = make_format_kernels<Q2K>(),
          .q3_k = make_format_kernels<Q3K>(),
          .q4_k = make_format_kernels<Q4K>(),
          .q5_k = make_format_kernels<Q5K>(),
          .q6_k = make_format_kernels<Q6K>(),
          .iq4_nl = make_format_kernels<Iq4Nl>(),
          .iq4_xs = make_format_kernels<Iq4Xs>(),
          .low_bit = low_bit,
          .dot_tile = dot_tile<>,
          .token_tile = kTokenTile,
          .attention_tile = attention_tile,
          .swiglu = swiglu_row};
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
