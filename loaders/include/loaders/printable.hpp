// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "pager/export.hpp"

namespace tensor_pager::loaders {

/// Text of a file as it can be shown: control characters (C0, DEL, and C1 in UTF-8), which would
/// break a line or drive the terminal, become \xNN, and bytes that are not UTF-8 U+FFFD.
TENSOR_PAGER_EXPORT std::string printable(std::string_view text);

}  // namespace tensor_pager::loaders
