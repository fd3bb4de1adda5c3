// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <string>

namespace tensor_pager::command_line {

/// Checks of numbers, for CLI::Option::check. What is no number is left to its conversion.
CLI::Validator positive();
CLI::Validator not_negative();
/// `meaning` is what the option takes -1 for.
CLI::Validator not_negative_or_minus_one(const std::string& meaning);
CLI::Validator finite();
/// From the one to the other, both included.
CLI::Validator in_range(double smallest, double largest);

/// Sequences that are generated together, at most: products of so many tokens are bound by
/// arithmetic, and more would be no help.
inline constexpr std::uint32_t kMostParallel = 1024;

}  // namespace tensor_pager::command_line
