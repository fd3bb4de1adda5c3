// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "cpu/integer_table.hpp"
#include "kernels/matmul.hpp"

namespace tensor_pager::kernels::cpu {

/// A product whose type has integer kernels; shapes agree and nothing is empty.
struct IntegerProduct {
  const IntegerFormat& format;
  const Weights& w;
  const MatrixView& y;
  const MatmulOptions& options;
};

/// Products of the same inputs, handed to threads together.
void integer_matmul(const IntegerKernels& kernels, std::span<const IntegerProduct> products,
                    const ConstMatrixView& x);

}  // namespace tensor_pager::kernels::cpu
