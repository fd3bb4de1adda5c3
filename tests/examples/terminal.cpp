// SPDX-License-Identifier: Apache-2.0
#include "terminal.hpp"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <stdexcept>
#include <utility>

namespace tensor_pager::tests {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(30);

}  // namespace

Terminal::Terminal(const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const winsize size{.ws_row = 24, .ws_col = 200, .ws_xpixel = 0, .ws_ypixel = 0};
  child_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
  if (child_ < 0) throw std::runtime_error("cannot make a pseudo-terminal");
  if (child_ == 0) {
    ::setenv("TERM", "xterm", 1);
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
}

Terminal::~Terminal() {
  if (child_ > 0) {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  ::close(terminal_);
}

void Terminal::type(std::string_view keys) const {
  if (::write(terminal_, keys.data(), keys.size()) != static_cast<ssize_t>(keys.size())) {
    throw std::runtime_error("cannot type");
  }
}

// A terminal whose program has ended fails with EIO.
bool Terminal::read_more(int milliseconds) {
  pollfd ready{.fd = terminal_, .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, milliseconds) == 0) return true;
  std::array<char, 4096> piece{};
  const ssize_t size = ::read(terminal_, piece.data(), piece.size());
  if (size <= 0) return false;
  unread_.append(piece.data(), static_cast<std::size_t>(size));
  return true;
}

std::string Terminal::until(std::string_view text) {
  const auto end = Clock::now() + kPatience;
  for (;;) {
    const std::size_t at = unread_.find(text);
    if (at != std::string::npos) {
      std::string read = unread_.substr(0, at + text.size());
      unread_.erase(0, read.size());
      return read;
    }
    if (!read_more(100) || Clock::now() > end) {
      throw std::runtime_error("\"" + std::string(text) + "\" did not come, but: " + unread_);
    }
  }
}

std::string Terminal::rest() {
  const auto end = Clock::now() + kPatience;
  while (read_more(100)) {
    if (Clock::now() > end) throw std::runtime_error("it does not end: " + unread_);
  }
  return std::exchange(unread_, {});
}

int Terminal::wait() {
  rest();
  int status = 0;
  ::waitpid(std::exchange(child_, 0), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace tensor_pager::tests
