// SPDX-License-Identifier: Apache-2.0
#include "command_line/prepare_files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>

namespace tensor_pager::command_line {
namespace {

// Opening gives the lowest number that is free: that of the stream, if those below are taken.
void occupy(int stream, int wrong_way) {
  if (::fcntl(stream, F_GETFD) == -1) {
    [[maybe_unused]] const int opened = ::open("/dev/null", wrong_way);
  }
}

}  // namespace

void prepare_files() {
  occupy(STDIN_FILENO, O_WRONLY);
  occupy(STDOUT_FILENO, O_RDONLY);
  occupy(STDERR_FILENO, O_RDONLY);
  std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace tensor_pager::command_line
