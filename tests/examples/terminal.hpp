// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace tensor_pager::tests {

/// A program on a pseudo-terminal, and somebody who types. It is killed if it still runs at the
/// end.
class Terminal {
 public:
  /// Throws std::runtime_error if it cannot be started.
  Terminal(const std::string& program, const std::vector<std::string>& arguments);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  /// Keys, as the terminal sends them.
  void type(std::string_view keys) const;
  /// What was written since the last call, up to and with `text`. Throws std::runtime_error, with
  /// what came instead, if it does not come within half a minute or the program ends.
  std::string until(std::string_view text);
  /// The same up to the program's end.
  std::string rest();
  /// Waits for its end: exit status, or 128 + the signal that killed it. Once.
  int wait();

 private:
  bool read_more(int milliseconds);

  int terminal_ = -1;
  pid_t child_ = 0;
  std::string unread_;
};

}  // namespace tensor_pager::tests
