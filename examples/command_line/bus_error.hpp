// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <string_view>

namespace tensor_pager::command_line {

/// While it lives, the program ends like after any failure, with status 1 and one line on stderr
/// that begins with `name`, if it reads a mapping of a file that has become shorter or whose disk
/// fails (SIGBUS). Where weights are read in place, that is all that can be done: no call fails.
class BusErrorGuard {
 public:
  explicit BusErrorGuard(std::string_view name);
  ~BusErrorGuard();
  BusErrorGuard(const BusErrorGuard&) = delete;
  BusErrorGuard& operator=(const BusErrorGuard&) = delete;

 private:
  struct sigaction former_ {};
};

}  // namespace tensor_pager::command_line
