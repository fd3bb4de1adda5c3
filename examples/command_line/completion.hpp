// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "command_line/option_shape.hpp"

namespace tensor_pager::command_line {

/// A script that, sourced by bash, completes the program's options, their choices and files.
std::string bash_completion(const std::string& program, const std::vector<OptionShape>& options);

/// The same for zsh: as a file _PROGRAM in a folder of $fpath, or sourced after compinit.
std::string zsh_completion(const std::string& program, const std::vector<OptionShape>& options);

}  // namespace tensor_pager::command_line
