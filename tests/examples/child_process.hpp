#pragma once

#include <string>
#include <vector>

namespace tensor_pager::tests {

/// How a program ended, and what it wrote.
struct ProcessResult {
  int status = -1;  ///< exit status, or 128 + the signal that killed it
  std::string out;
  std::string err;
};

/// Runs a program to its end, stdin empty. Throws std::runtime_error if it cannot be started.
ProcessResult run_process(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace tensor_pager::tests
