// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tensor_pager::command_line {

/// JSON as text; `indent` -1 is one line. Names from files need not be UTF-8: what is not becomes
/// U+FFFD.
inline std::string to_text(const nlohmann::ordered_json& json, int indent = 2) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false,
                   nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace tensor_pager::command_line
