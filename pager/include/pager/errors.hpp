// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

#include "pager/export.hpp"
#include "pager/types.hpp"

namespace tensor_pager {

/// Every failure that the pager reports; what() is one line that says what failed, where, and what
/// to do.
class TENSOR_PAGER_EXPORT Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The arena is too small for what is asked of it.
class TENSOR_PAGER_EXPORT BudgetError : public Error {
 public:
  BudgetError(const std::string& message, Bytes minimum) : Error(message), minimum_(minimum) {}

  /// The smallest arena, in bytes, with which the same call succeeds.
  Bytes minimum() const { return minimum_; }

 private:
  Bytes minimum_;
};

/// The backing store could not deliver bytes of the image.
class TENSOR_PAGER_EXPORT StoreError : public Error {
 public:
  using Error::Error;
};

/// The device refused an operation: no memory, no address space, a failed copy.
class TENSOR_PAGER_EXPORT DeviceError : public Error {
 public:
  using Error::Error;
};

}  // namespace tensor_pager
