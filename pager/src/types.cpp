// SPDX-License-Identifier: Apache-2.0
#include "pager/types.hpp"

#include <array>
#include <cstdio>

namespace tensor_pager {

std::string to_string(Bytes bytes) {
  static constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  auto value = static_cast<double>(bytes.count);
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  const bool whole = value == static_cast<double>(static_cast<std::uint64_t>(value));
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), whole ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text.data();
}

}  // namespace tensor_pager
