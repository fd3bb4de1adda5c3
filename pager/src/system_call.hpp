// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <string>

#include "pager/system_error.hpp"

namespace tensor_pager {

inline constexpr const char* kAddressesRemedy = "; raise the limit of addresses (ulimit -v)";

/// "mmap of 4096 bytes failed: Cannot allocate memory", for the error that errno holds.
inline std::string failed_call(const std::string& call) {
  return call + " failed: " + cause_of(errno);
}

}  // namespace tensor_pager
