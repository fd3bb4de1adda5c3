// SPDX-License-Identifier: Apache-2.0
#include "command_line/left_out.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <stdexcept>

namespace tensor_pager::command_line {

void LeftOut::add(const std::string& what, const std::exception& why) {
  if (cases_ == 1) throw;
  ++left_out_;
  fmt::print(stderr, "{}: {} is left out: {}\n", program_, what, why.what());
}

void LeftOut::require_some() const {
  if (left_out_ < cases_ || cases_ == 0) return;
  throw std::runtime_error(
      fmt::format("none of the {} cases can be run, see above; give other values", cases_));
}

}  // namespace tensor_pager::command_line
