// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace tensor_pager::loaders {

/// How error messages show text of any length and any bytes: its beginning, escaped, in quotes, so
/// that the message is one line and harmless to a terminal.
inline std::string quoted(std::string_view text) {
  constexpr std::size_t kShown = 40;
  return fmt::format("{:?}{}", text.substr(0, kShown), text.size() > kShown ? "..." : "");
}

}  // namespace tensor_pager::loaders
