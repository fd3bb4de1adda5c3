#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu/attention_tile.hpp"
#include "cpu/exponential.hpp"
#include "cpu/formats.hpp"
#include "cpu/kernel_table.hpp"

// The kernels that are compiled once per instruction set, as templates over the vector type that a
// lanes_*.hpp defines before this file is included. Everything here is in an unnamed namespace and
// calls no inline function of the standard library: the linker keeps one copy of an inline function
// for the whole program, and must not find one made of AVX-512 instructions.

namespace tensor_pager::kernels::cpu {
namespace {

template <class Format>
constexpr bool kMayEndInsideBlock = Format::kElements == 16;  // the unquantised formats

// The last elements of an unquantised row, followed by zeros.
template <class Format>
void decode_tail(const std::uint8_t* source, std::size_t elements, float* out) {
  std::uint8_t block[Format::kBytes] = {};
  std::memcpy(block, source, elements * (Format::kBytes / Format::kElements));
  Format::decode(block, [out](std::size_t i, Vec v) { store(out + i, v); });
}

template <class Format>
void dequantize_blocks(const std::byte* blocks, float* out, std::size_t elements) {
  const auto* block = reinterpret_cast<const std::uint8_t*>(blocks);
  for (; elements >= Format::kElements; elements -= Format::kElements) {
    Format::decode(block, [out](std::size_t i, Vec v) { store(out + i, v); });
    block += Format::kBytes;
    out += Format::kElements;
  }
  if constexpr (kMayEndInsideBlock<Format>) {
    if (elements == 0) return;
    float tail[16];
    decode_tail<Format>(block, elements, tail);
    std::memcpy(out, tail, elements * sizeof(float));
  }
}

template <class Format>
TENSOR_PAGER_INLINE Vec dot_block(const std::uint8_t* block, const float* x, Vec sum) {
  Format::decode(block,
                 [x, &sum](std::size_t i, Vec w) { sum = multiply_add(w, load(x + i), sum); });
  return sum;
}

template <class Format>
void dot_tail(const std::uint8_t* const rows[kRowGroup], const float* x, std::size_t elements,
              Vec sums[kRowGroup]) {
  float padded_x[16] = {};
  std::memcpy(padded_x, x, elements * sizeof(float));
  for (std::size_t r = 0; r < kRowGroup; ++r) {
    float weights[16];
    decode_tail<Format>(rows[r], elements, weights);
    for (std::size_t i = 0; i < 16; i += kLanes) {
      sums[r] = multiply_add(load(weights + i), load(padded_x + i), sums[r]);
    }
  }
}

template <class Format>
void dot_rows(const std::byte* rows, std::size_t row_bytes, const float* x, std::size_t elements,
              float* totals) {
  const std::uint8_t* row[kRowGroup];
  for (std::size_t r = 0; r < kRowGroup; ++r) {
    row[r] = reinterpret_cast<const std::uint8_t*>(rows) + r * row_bytes;
    totals[r] = 0.0F;
  }
  for (std::size_t start = 0; start < elements; start += kChunk) {
    const std::size_t count = elements - start < kChunk ? elements - start : kChunk;
    Vec sums[kRowGroup] = {broadcast(0.0F), broadcast(0.0F), broadcast(0.0F), broadcast(0.0F)};
    std::size_t done = 0;
    for (; done + Format::kElements <= count; done += Format::kElements) {
#pragma GCC unroll 4
      for (std::size_t r = 0; r < kRowGroup; ++r) {
        sums[r] = dot_block<Format>(row[r], x + start + done, sums[r]);
        row[r] += Format::kBytes;
      }
    }
    if constexpr (kMayEndInsideBlock<Format>) {
      if (done < count) dot_tail<Format>(row, x + start + done, count - done, sums);
    }
    add_sums(totals, sums[0], sums[1], sums[2], sums[3]);
  }
}

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

void swiglu_row(const float* gate, const float* up, float* out, std::size_t n) {
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) swiglu_lanes(gate + i, up + i, out + i);
  if (i == n) return;
  float tail[3][kLanes] = {};
  std::memcpy(tail[0], gate + i, (n - i) * sizeof(float));
  std::memcpy(tail[1], up + i, (n - i) * sizeof(float));
  swiglu_lanes(tail[0], tail[1], tail[2]);
  std::memcpy(out + i, tail[2], (n - i) * sizeof(float));
}

template <class Format>
constexpr FormatKernels make_format_kernels() {
  return {dequantize_blocks<Format>, dot_rows<Format>};
}

constexpr KernelTable make_kernel_table() {
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
          .dot_tile = dot_tile<>,
          .token_tile = kTokenTile,
          .attention_tile = attention_tile,
          .swiglu = swiglu_row};
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
