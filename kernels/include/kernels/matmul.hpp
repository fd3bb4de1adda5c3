// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "kernels/export.hpp"
#include "kernels/instruction_set.hpp"
#include "kernels/matrix_view.hpp"
#include "kernels/weight_type.hpp"

namespace tensor_pager::kernels {

/// Weight matrix [rows, cols] as it lies in a model file: rows are outputs, cols inputs; rows
/// follow each other without gaps, each in whole blocks of `type`.
struct Weights {
  WeightType type = WeightType::f32;
  const std::byte* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  float factor = 1.0F;  ///< of every weight; products are multiplied by it

  /// Rows [first, first + count). Throws Error if they are not all there.
  [[nodiscard]] TENSOR_PAGER_EXPORT Weights slice(std::size_t first, std::size_t count) const;
};

namespace cpu {

struct MatmulOptions {
  const float* bias = nullptr;  ///< [rows], added to every token's product
  bool accumulate = false;      ///< y += product instead of y = product: the residual connection
  InstructionSet instruction_set = best_instruction_set();
};

/// y[t, r] = factor * sum over k of w[r, k] * x[t, k] (+ bias[r]) (+ y[t, r]), for x [tokens,
/// w.cols] and y [tokens, w.rows]. x and y do not overlap.
///
/// With AVX2 or better, codes of Q4_0 to Q8_0, of the K types and of IQ4 are multiplied as integers
/// with inputs rounded to 16 bits: each group of 32 inputs, from a multiple of 32 on, is made
/// multiples of its largest magnitude / 32767. y is then within 1e-4 |w[r]| |x[t]| of exact
/// (Euclidean norms). A group whose inputs are all below 2^-100 is taken for zeros, and one with an
/// infinity or a NaN makes y[t] NaN. Weights of other types, and all types in scalar, are
/// dequantised to float32 and multiplied in float32 with fused multiply-adds.
///
/// Runs on the TBB threads of the caller's arena. The bits of y[t, r] depend on row r, token t and
/// the instruction set only: not on the number of threads, the tokens multiplied together, or how
/// the rows are sliced into calls; those of integer products not on the instruction set either.
/// Throws Error if the shapes do not agree.
TENSOR_PAGER_EXPORT void matmul(const Weights& w, const ConstMatrixView& x, const MatrixView& y,
                                const MatmulOptions& options = {});

}  // namespace cpu
}  // namespace tensor_pager::kernels
