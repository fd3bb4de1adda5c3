// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "kernels/error.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cpu {

inline std::string shape_text(const ConstMatrixView& m) {
  return "[" + std::to_string(m.rows) + ", " + std::to_string(m.cols) + "] with stride " +
         std::to_string(m.stride);
}

/// Throws Error unless m is [rows, cols] with a stride of at least cols. `what` names operation and
/// operand.
inline void require_shape(const char* what, const ConstMatrixView& m, std::size_t rows,
                          std::size_t cols) {
  if (m.rows == rows && m.cols == cols && m.stride >= cols) return;
  throw Error(std::string(what) + " is " + shape_text(m) + ", but must be [" +
              std::to_string(rows) + ", " + std::to_string(cols) + "]");
}

}  // namespace tensor_pager::kernels::cpu
