// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "command_line/help.hpp"
#include "command_line/option_shape.hpp"

namespace tensor_pager::command_line {

/// What --man-page prints: what help says, in the language of man(7), for section 1. The name's
/// line has the purpose up to its first point, colon or comma.
std::string man_page(const ProgramDescription& program, const std::vector<OptionShape>& options);

}  // namespace tensor_pager::command_line
