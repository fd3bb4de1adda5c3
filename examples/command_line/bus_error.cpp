// SPDX-License-Identifier: Apache-2.0
#include "command_line/bus_error.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>

namespace tensor_pager::command_line {
namespace {

constexpr std::string_view kMessage =
    ": a file became shorter or its disk failed while it was read in place; wait until the model "
    "is complete, or give a copy of it\n";

// Composed beforehand: a handler may do little more than write.
std::array<char, 256> line;
std::size_t length = 0;

// Several threads read such a file at once, and each of them comes here: the first one speaks for
// all.
std::atomic_flag said = ATOMIC_FLAG_INIT;

void end_program(int signal, siginfo_t* info, void* /*context*/) {
  // Sent by somebody, or about something else than a mapping: what it does to any program.
  if (info->si_code != BUS_ADRERR && info->si_code != BUS_OBJERR) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
    return;
  }
  while (said.test_and_set()) ::pause();
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), length);
  ::_exit(1);
}

}  // namespace

BusErrorGuard::BusErrorGuard(std::string_view name) {
  const std::size_t begin = std::min(name.size(), line.size() - kMessage.size());
  std::copy_n(name.begin(), begin, line.begin());
  std::copy(kMessage.begin(), kMessage.end(), line.begin() + static_cast<std::ptrdiff_t>(begin));
  length = begin + kMessage.size();
  struct sigaction action {};
  action.sa_sigaction = end_program;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, &former_);
}

BusErrorGuard::~BusErrorGuard() {
  ::sigaction(SIGBUS, &former_, nullptr);
}

}  // namespace tensor_pager::command_line
