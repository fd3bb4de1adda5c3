// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tensor_pager {

/// "1 page", "2 pages", "0 pages". For nouns whose plural ends in s.
inline std::string counted(std::uint64_t number, std::string_view noun) {
  std::string text = std::to_string(number);
  text += ' ';
  text += noun;
  if (number != 1) text += 's';
  return text;
}

}  // namespace tensor_pager
