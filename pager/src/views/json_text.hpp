// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace tensor_pager {

/// The contents of a JSON string that says `text`. Bytes that are not UTF-8, which names from files
/// may contain, become U+FFFD.
std::string json_text(std::string_view text);

}  // namespace tensor_pager
