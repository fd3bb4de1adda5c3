// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "kernels/export.hpp"
#include "kernels/matmul.hpp"

namespace tensor_pager::kernels::cpu {

/// One of several products of the same inputs.
struct SharedProduct {
  Weights w;
  MatrixView y;  ///< [tokens, w.rows]
  MatmulOptions options{};
};

/// matmul(w, x, y, options) of each, bit for bit, in one: inputs are rounded once, and threads are
/// handed the rows of all matrices together, so that they wait for each other once and not after
/// each. No y overlaps another one or x. Throws Error if shapes or instruction sets do not agree.
TENSOR_PAGER_EXPORT void matmul(std::span<const SharedProduct> products, const ConstMatrixView& x);

}  // namespace tensor_pager::kernels::cpu
