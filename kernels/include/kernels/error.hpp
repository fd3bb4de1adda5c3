// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>

#include "kernels/export.hpp"

namespace tensor_pager::kernels {

/// A kernel was called with shapes, a type or an instruction set that it cannot work with. The
/// message names the operation and the values.
class TENSOR_PAGER_EXPORT Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace tensor_pager::kernels
