// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <stdexcept>

namespace tensor_pager::command_line {

/// The program was asked to end, and has ended what it can be asked about. run_program makes its
/// exit status 128 + the signal of it.
class Interrupted : public std::runtime_error {
 public:
  explicit Interrupted(int signal) : std::runtime_error("interrupted"), signal_(signal) {}
  int signal() const { return signal_; }

 private:
  int signal_;
};

/// While it lives, the first SIGINT (Ctrl-C), the first SIGTERM and the first SIGHUP (its terminal
/// has gone) are only noted, so that a program can end in order; a second one of the kind ends it
/// at once. A SIGHUP that is ignored stays so: that is what nohup is for. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// The signal that came, or 0.
  static int pending();
  /// Throws Interrupted if one came. Any thread; costs nothing.
  static void check();

 private:
  struct sigaction former_interrupt_ {};
  struct sigaction former_termination_ {};
  struct sigaction former_hangup_ {};
};

}  // namespace tensor_pager::command_line
