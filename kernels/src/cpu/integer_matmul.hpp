// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cpu/integer_table.hpp"
#include "kernels/matmul.hpp"

namespace tensor_pager::kernels::cpu {

/// matmul() for a type that has integer kernels; shapes agree and nothing is empty.
void integer_matmul(const IntegerKernels& kernels, const IntegerFormat& format, const Weights& w,
                    const ConstMatrixView& x, const MatrixView& y, const MatmulOptions& options);

}  // namespace tensor_pager::kernels::cpu
