// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/App.hpp>

namespace tensor_pager::command_line {

/// Checks of numbers, for CLI::Option::check. What is no number is left to its conversion.
CLI::Validator positive();
CLI::Validator not_negative();
CLI::Validator finite();
/// From 0 to 1.
CLI::Validator share();

}  // namespace tensor_pager::command_line
