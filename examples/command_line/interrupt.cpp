// SPDX-License-Identifier: Apache-2.0
#include "command_line/interrupt.hpp"

namespace tensor_pager::command_line {
namespace {

volatile std::sig_atomic_t noted = 0;

void note(int signal) {
  noted = signal;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  noted = 0;
  struct sigaction action {};
  action.sa_handler = note;
  // Once: the next one does what it does to any program. Writes go on where they were.
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  ::sigaction(SIGINT, &action, &former_interrupt_);
  ::sigaction(SIGTERM, &action, &former_termination_);
  ::sigaction(SIGHUP, &action, &former_hangup_);
  if (former_hangup_.sa_handler == SIG_IGN) ::sigaction(SIGHUP, &former_hangup_, nullptr);
}

InterruptGuard::~InterruptGuard() {
  ::sigaction(SIGINT, &former_interrupt_, nullptr);
  ::sigaction(SIGTERM, &former_termination_, nullptr);
  ::sigaction(SIGHUP, &former_hangup_, nullptr);
}

int InterruptGuard::pending() {
  return noted;
}

void InterruptGuard::check() {
  if (const int signal = pending(); signal != 0) throw Interrupted(signal);
}

}  // namespace tensor_pager::command_line
