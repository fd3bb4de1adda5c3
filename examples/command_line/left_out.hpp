// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <exception>
#include <string>
#include <string_view>

namespace tensor_pager::command_line {

/// Cases of a list that could not be run: they are reported, and the others go on.
class LeftOut {
 public:
  /// `cases` in all.
  LeftOut(std::string_view program, std::size_t cases) : program_(program), cases_(cases) {}

  /// Call it while the exception is handled. One line on stderr; of a single case the exception
  /// itself goes on.
  void add(const std::string& what, const std::exception& why);
  /// Throws std::runtime_error if none is left.
  void require_some() const;

 private:
  std::string program_;
  std::size_t cases_;
  std::size_t left_out_ = 0;
};

}  // namespace tensor_pager::command_line
