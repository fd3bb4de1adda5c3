// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>

namespace tensor_pager::qwen {

/// A model that cannot be run, an input that cannot be used, a file that cannot be written. The
/// message is one line that says what, where and what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace tensor_pager::qwen
