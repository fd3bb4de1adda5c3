// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "birthplace.hpp"

namespace tensor_pager {

/// Deletes an object in the process that made it. In a forked child it is left behind as it is: to
/// join its threads, or to destroy a condition that they wait for, would never end there.
class LeftBehind {
 public:
  template <class T>
  void operator()(T* object) const noexcept {
    if (!birthplace_.elsewhere()) delete object;
  }

 private:
  Birthplace birthplace_;
};

/// Owns an object that threads or a GPU take part in.
template <class T>
using OwnedHere = std::unique_ptr<T, LeftBehind>;

}  // namespace tensor_pager
