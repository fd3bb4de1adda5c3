// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/rounded_block.hpp"
#include "kernels/instruction_set.hpp"
#include "kernels/weight_type.hpp"

namespace tensor_pager::kernels::cpu {

/// Blocks of inputs that are summed in lanes before the lanes are added up: part of the definition
/// of a product's bits (docs/design.md).
inline constexpr std::size_t kChunkBlocks = 2;

/// Tokens that a product straight from quantised blocks takes at most. Beyond, unpacking the
/// weights once for all is faster.
inline constexpr std::size_t kDirectTokens = 4;

/// Rows of weights times a few tokens, straight from their blocks. Totals are written for a
/// multiple of 8 rows; those past `row_count` mean nothing.
struct DirectProduct {
  const std::byte* rows;
  std::size_t row_bytes;
  std::size_t row_count;
  std::size_t cols;
  const RoundedBlock* x;  ///< [tokens, ceil(cols / 256)]
  float* totals;          ///< [tokens, totals_stride]
  std::size_t totals_stride;
};

/// Weights of some rows and up to kChunkBlocks blocks of columns to unpack. Rows are a multiple of
/// IntegerKernels::panel_rows; those past `row_count` become anything.
struct PanelSource {
  const std::byte* rows;
  std::size_t row_bytes;
  std::size_t row_count;
  std::size_t first_block;
  std::size_t block_count;
  std::size_t cols;
  const std::byte* ahead;  ///< as many bytes to fetch from memory meanwhile; may be none
};

/// Products of one panel of panel_rows rows with some tokens.
struct PanelProduct {
  const std::byte* panel;
  std::size_t block_count;
  const RoundedBlock* x;  ///< the first block of the first token
  std::size_t x_stride;   ///< blocks from one token to the next
  std::size_t tokens;
  float* totals;  ///< [tokens, totals_stride], added to
  std::size_t totals_stride;
};

/// The integer kernels of one storage format.
struct IntegerFormat {
  void (*direct[kDirectTokens])(const DirectProduct& product);  ///< by tokens - 1
  void (*unpack)(const PanelSource& source, std::byte* panel);
  void (*multiply)(const PanelProduct& product);
  std::size_t panel_block_bytes;  ///< of panel_rows rows
};

/// The kernels of one instruction set that multiply weights as integers. All sets give equal bits.
struct IntegerKernels {
  IntegerFormat q4_0, q4_1, q5_0, q5_1, q8_0;
  IntegerFormat q2_k, q3_k, q4_k, q5_k, q6_k;
  IntegerFormat iq4_nl, iq4_xs;
  void (*round)(const float* x, std::size_t elements, RoundedBlock* out);
  std::size_t panel_rows;
};

#ifdef TENSOR_PAGER_KERNELS_X86
extern const IntegerKernels kAvx2IntegerKernels;
extern const IntegerKernels kAvx512IntegerKernels;
extern const IntegerKernels kAvx512VnniIntegerKernels;
#endif

/// None where products of this set are of floats.
[[nodiscard]] const IntegerKernels* integer_kernels(InstructionSet set);

/// The member of the table for this type; none if its products are of floats.
[[nodiscard]] const IntegerFormat* integer_format(const IntegerKernels& kernels, WeightType type);

}  // namespace tensor_pager::kernels::cpu
