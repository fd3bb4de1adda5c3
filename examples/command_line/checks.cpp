// SPDX-License-Identifier: Apache-2.0
#include "command_line/checks.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <string>

namespace tensor_pager::command_line {
namespace {

// The messages of CLI11's own checks name the largest double in full.
template <class Holds>
CLI::Validator check(Holds holds, const std::string& complaint) {
  const auto function = [=](std::string& text) {
    double number = 0;
    const bool wrong = CLI::detail::lexical_cast(text, number) && !holds(number);
    return wrong ? text + complaint : std::string();
  };
  return CLI::Validator(function, "");
}

}  // namespace

CLI::Validator positive() {
  return check([](double number) { return number > 0; }, " is not more than 0");
}

CLI::Validator not_negative() {
  return check([](double number) { return number >= 0; }, " is less than 0");
}

CLI::Validator not_negative_or_minus_one(const std::string& meaning) {
  return check([](double number) { return number >= 0 || number == -1; },
               fmt::format(" is less than 0, where only -1 has a meaning: {}", meaning));
}

CLI::Validator finite() {
  return check([](double number) { return std::isfinite(number); }, " is not a finite number");
}

CLI::Validator in_range(double smallest, double largest) {
  return check([=](double number) { return number >= smallest && number <= largest; },
               fmt::format(" is not from {} to {}", smallest, largest));
}

}  // namespace tensor_pager::command_line
