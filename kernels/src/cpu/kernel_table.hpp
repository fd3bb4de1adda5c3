// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/instruction_set.hpp"
#include "kernels/weight_type.hpp"

namespace tensor_pager::kernels::cpu {

/// Inputs whose products are summed in vector lanes before the lanes are added up. A multiple of
/// every block size. It is part of the definition of a product's bits: a row's total is the sum, in
/// order, of its chunks' sums.
inline constexpr std::size_t kChunk = 512;

/// Weight rows that a product kernel works on together.
inline constexpr std::size_t kRowGroup = 4;

/// Queries that attention works on together, and keys between two updates of the softmax.
inline constexpr std::size_t kQueryGroup = 6;
inline constexpr std::size_t kKeyBlock = 64;

/// The kernels of one storage type.
struct FormatKernels {
  /// Blocks to float32; `elements` fill whole blocks.
  void (*dequantize)(const std::byte* blocks, float* out, std::size_t elements);
  /// totals[r] = product of row r with x [elements], for kRowGroup rows, `row_bytes` apart, without
  /// an intermediate copy of the weights. Same bits as dequantize followed by dot_tile.
  void (*dot_rows)(const std::byte* rows, std::size_t row_bytes, const float* x,
                   std::size_t elements, float* totals);
};

/// Part of a product: kRowGroup dequantised rows times up to token_tile tokens.
struct DotTile {
  const float*
      weights;     ///< [kRowGroup, kChunk], zeros from `elements` up to the next multiple of 16
  const float* x;  ///< [tokens, elements]
  std::size_t x_stride;
  std::size_t elements;  ///< at most kChunk
  std::size_t tokens;    ///< at most KernelTable::token_tile
  float* totals;         ///< [tokens, kRowGroup], added to
  std::size_t totals_stride;
};

/// Attention of some tokens for the query heads that share one key/value head.
struct AttentionTile {
  void (*load)(const std::byte* source, float* out,
               std::size_t elements);  ///< cache type to float32; none if it is that
  const std::byte* keys;               ///< position 0 of this key/value head
  const std::byte* values;             ///< likewise
  std::size_t position_bytes;          ///< from one position to the next
  std::size_t head_dim;
  std::size_t group;  ///< query heads
  std::size_t tokens;
  std::size_t
      first_length;  ///< positions that the first token attends to; one more for each next token
  float scale;
  const float* q;  ///< [tokens, group, head_dim], tokens q_stride apart
  std::size_t q_stride;
  float* out;  ///< likewise, out_stride apart
  std::size_t out_stride;
  float* scratch;  ///< attention_scratch_floats() of them, 64-byte aligned
};

/// The kernels of the code book, ternary and four-bit float formats.
struct LowBitKernels {
  FormatKernels iq2_xxs, iq2_xs, iq2_s, iq3_xxs, iq3_s, iq1_s, iq1_m;
  FormatKernels tq1_0, tq2_0, mxfp4, nvfp4;
};

/// Everything that is compiled once per instruction set.
struct KernelTable {
  FormatKernels f32, f16, bf16;
  FormatKernels q4_0, q4_1, q5_0, q5_1, q8_0;
  FormatKernels q2_k, q3_k, q4_k, q5_k, q6_k;
  FormatKernels iq4_nl, iq4_xs;
  const LowBitKernels& low_bit;
  void (*dot_tile)(const DotTile& tile);
  std::size_t token_tile;
  void (*attention_tile)(const AttentionTile& tile);
  void (*swiglu)(const float* gate, const float* up, float* out, std::size_t n);
};

extern const LowBitKernels kPortableLowBitKernels;
extern const KernelTable kPortableKernels;
#ifdef TENSOR_PAGER_KERNELS_X86
extern const LowBitKernels kAvx2LowBitKernels;
extern const KernelTable kAvx2Kernels;
extern const LowBitKernels kAvx512LowBitKernels;
extern const KernelTable kAvx512Kernels;
#endif

/// Throws Error if the processor does not run this set.
[[nodiscard]] const KernelTable& kernel_table(InstructionSet set);

/// The member of the table for this type.
[[nodiscard]] const FormatKernels& format_kernels(const KernelTable& table, WeightType type);

}  // namespace tensor_pager::kernels::cpu
