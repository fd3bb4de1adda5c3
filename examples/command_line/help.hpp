// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "command_line/option_shape.hpp"

namespace tensor_pager::command_line {

/// What help says about a program besides its options.
struct ProgramDescription {
  std::string name;
  std::string purpose;                ///< what it does; lines of at most 90 characters
  std::string usage;                  ///< what must be given: "-m FILE [OPTION...]"
  std::vector<std::string> examples;  ///< what could follow the name, one line each
};

/// What --help prints.
std::string help_text(const ProgramDescription& program, const std::vector<OptionShape>& options);

}  // namespace tensor_pager::command_line
