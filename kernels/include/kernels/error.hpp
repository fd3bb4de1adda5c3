#pragma once

#include <stdexcept>

namespace tensor_pager::kernels {

/// A kernel was called with shapes, a type or an instruction set that it cannot work with. The
/// message names the operation and the values.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace tensor_pager::kernels
