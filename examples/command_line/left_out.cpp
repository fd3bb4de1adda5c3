// SPDX-License-Identifier: Apache-2.0
#include "command_line/left_out.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "command_line/note.hpp"

namespace tensor_pager::command_line {

void LeftOut::add(const std::string& what, const std::exception& why) {
  if (cases_ == 1) throw;
  ++left_out_;
  note_line(program_, fmt::format("{} is left out: {}", what, why.what()));
}

void LeftOut::require_some() const {
  if (left_out_ < cases_ || cases_ == 0) return;
  throw std::runtime_error(
      fmt::format("none of the {} cases can be run, see above; give other values", cases_));
}

}  // namespace tensor_pager::command_line
