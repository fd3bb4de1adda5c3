// SPDX-License-Identifier: Apache-2.0
#include "pager/version.hpp"

namespace tensor_pager {

const char* version() noexcept {
  return TENSOR_PAGER_VERSION;
}

}  // namespace tensor_pager
