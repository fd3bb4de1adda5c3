// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "../temporary_directory.hpp"

namespace tensor_pager::tests {

/// How a program ended, and what it wrote.
struct ProcessResult {
  int status = -1;  ///< exit status, or 128 + the signal that killed it
  std::string out;
  std::string err;
};

/// A program that runs beside the test, stdin empty. It is killed if it still runs at the end.
class ChildProcess {
 public:
  /// Throws std::runtime_error if it cannot be started.
  ChildProcess(const std::string& program, const std::vector<std::string>& arguments);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void kill(int signal) const;
  /// What it wrote to stdout so far.
  std::string out() const;
  /// The same of stderr.
  std::string err() const;
  /// Waits for its end. Once.
  ProcessResult wait();

 private:
  TemporaryDirectory directory_;
  pid_t pid_ = 0;
};

/// Runs a program to its end, stdin empty. Throws std::runtime_error if it cannot be started.
ProcessResult run_process(const std::string& program, const std::vector<std::string>& arguments);

/// What a program on a terminal left there.
struct TerminalResult {
  int status = -1;
  std::string written;  ///< all that it wrote to the terminal, control characters included
  std::string out;      ///< stdout, if it was not the terminal
};

struct TerminalOptions {
  unsigned short columns = 80;
  bool stdout_is_terminal = true;  ///< otherwise stderr alone is
};

/// Runs a program on a pseudo-terminal to its end. Throws std::runtime_error if it cannot be
/// started.
TerminalResult run_on_terminal(const std::string& program,
                               const std::vector<std::string>& arguments,
                               const TerminalOptions& options = {});

}  // namespace tensor_pager::tests
