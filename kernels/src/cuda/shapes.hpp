// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "cpu/shape_check.hpp"

namespace tensor_pager::kernels::cuda {

using cpu::require_shape;

/// Whether every row of m can be read four floats at a time.
inline bool rows_of_float4(const ConstMatrixView& m) {
  return m.cols % 4 == 0 && m.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(m.data) % 16 == 0;
}

}  // namespace tensor_pager::kernels::cuda
