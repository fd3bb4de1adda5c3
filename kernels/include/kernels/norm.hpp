// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/export.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cpu {

/// out[r, i] = x[r, i] / sqrt(mean over i of x[r, i]^2 + epsilon) * weight[i]. x and out are [rows,
/// n] and may be the same matrix; weight is [n]. For the norm of every head, view [tokens, heads *
/// head_dim] as [tokens * heads, head_dim]. The squares are summed in float64, in an order that
/// depends on n only. Returns whether all of x are numbers: finite. Throws Error if the shapes do
/// not agree. Formula: Zhang and Sennrich, Root Mean Square Layer Normalization (2019).
TENSOR_PAGER_EXPORT bool rms_norm(const ConstMatrixView& x, const float* weight, float epsilon,
                                  const MatrixView& out);

}  // namespace tensor_pager::kernels::cpu
