// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pager/export.hpp"

namespace tensor_pager {

/// The version of the library that the process runs with: "0.1.0", the one that its CMake package
/// has and that programs say with --version. Static storage.
TENSOR_PAGER_EXPORT const char* version() noexcept;

}  // namespace tensor_pager
