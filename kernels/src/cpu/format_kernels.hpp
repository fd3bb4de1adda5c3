// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu/formats.hpp"
#include "cpu/kernel_table.hpp"

// The kernels of one storage format, made of its decode(). See kernels.hpp for what may be called
// here.

namespace tensor_pager::kernels::cpu {
namespace {

template <class Format>
inline constexpr bool kMayEndInsideBlock = Format::kElements == 16;  // the unquantised formats

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

template <class Format>
constexpr FormatKernels make_format_kernels() {
  return {dequantize_blocks<Format>, dot_rows<Format>};
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
