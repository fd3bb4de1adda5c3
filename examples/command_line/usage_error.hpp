// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>

namespace tensor_pager::command_line {

/// The command line makes no sense. The message is one line that names the option.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace tensor_pager::command_line
