// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <type_traits>

#include "kernels/export.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// Whether matrix products round their operands to bfloat16 instead of half. Halves keep three more
/// bits (2^-11 relative instead of 2^-8) at the same speed; their smaller range is what
/// OperandView::factors are for. The one place to change, to measure the other.
inline constexpr bool kBfloatOperands = false;

/// What the tensor cores multiply; sums are float32.
using Operand = std::conditional_t<kBfloatOperands, __nv_bfloat16, __half>;

/// A product that is kept as Operands is multiplied by this first, so that it does not leave their
/// range: halves then hold magnitudes up to 2^20, and round to 2^-21 below 2^-10.
inline constexpr float kProductScale = kBfloatOperands ? 1.0F : 0.0625F;

/// Elements from one row of operands to the next: rows begin at multiples of sixteen bytes.
constexpr std::size_t operand_stride(std::size_t cols) {
  return (cols + 7) / 8 * 8;
}

/// A matrix [rows, cols] as products take it, or leave it. Row t begins at data[t * stride]; what
/// products take is followed by zeros up to operand_stride(cols).
struct OperandView {
  Operand* data = nullptr;  ///< at a multiple of 16 bytes
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = operand_stride(cols);  ///< at least that, and a multiple of 8
  /// [rows], or null. Row t is the matrix's divided by factors[t], a power of two that is 1 unless
  /// the row's largest magnitude is outside [2^-8, 2^15).
  float* factors = nullptr;
};

/// x rounded to operands. Throws Error if the shapes do not agree or the launch fails.
TENSOR_PAGER_EXPORT void round_rows(const ConstMatrixView& x, const OperandView& out,
                                    cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
