// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <string>
#include <system_error>

namespace tensor_pager {

/// What the system says of an error number: "No such file or directory". Whatever is opened may
/// meet the limit of open files, whose remedy is none of the file's, so that it is named here,
/// once. Safe in several threads.
inline std::string cause_of(int error) {
  const std::string cause = std::generic_category().message(error);
  return error == EMFILE ? cause + " (raise their limit: ulimit -n)" : cause;
}

}  // namespace tensor_pager
