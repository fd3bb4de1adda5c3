// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "command_line/option_shape.hpp"

namespace tensor_pager::command_line {

/// What follows an option's names: "FILE", "auto|cuda|host", "N,..."; empty: nothing.
std::string value_text(const OptionShape& option);

/// What an option does, with those of its choices that value_text does not show, its default, and
/// whether it must be given. On one line.
std::string description_text(const OptionShape& option);

/// The groups of all options, in the order in which they are shown.
std::vector<std::string> shown_groups(const std::vector<OptionShape>& options);

/// The same in all programs.
std::string exit_status_text();

}  // namespace tensor_pager::command_line
