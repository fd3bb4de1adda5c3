// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "kernels/export.hpp"
#include "kernels/instruction_set.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cpu {

/// out = silu(gate) * up, silu(g) = g / (1 + exp(-g)). All three are [rows, n]; out may be gate or
/// up. Exponentials are within 2 units in the last place. Throws Error if the shapes do not agree,
/// as do the functions below.
TENSOR_PAGER_EXPORT void swiglu(const ConstMatrixView& gate, const ConstMatrixView& up,
                                const MatrixView& out,
                                InstructionSet instruction_set = best_instruction_set());

/// out = a + b, all [rows, n]; out may be a or b.
TENSOR_PAGER_EXPORT void add(const ConstMatrixView& a, const ConstMatrixView& b,
                             const MatrixView& out);

/// Each row becomes its softmax, in place; summed in float64 in order. For short rows, such as
/// expert scores.
TENSOR_PAGER_EXPORT void softmax_rows(const MatrixView& x);

/// Indices of the `indices.size()` largest of `values`, largest first; of equal ones the lower
/// index first. Throws Error if more are asked for than there are.
TENSOR_PAGER_EXPORT void top_k(std::span<const float> values, std::span<std::size_t> indices);

}  // namespace tensor_pager::kernels::cpu
