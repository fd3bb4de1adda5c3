// SPDX-License-Identifier: Apache-2.0
#include "child_process.hpp"

#include <fcntl.h>
#include <pty.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <utility>

namespace tensor_pager::tests {
namespace {

std::string content(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<char*> pointers(const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  return argv;
}

int exit_status(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Until the program has closed its side: then reading fails.
std::string read_terminal(int terminal) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t size = ::read(terminal, buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(size));
  }
}

}  // namespace

// Files, not pipes: neither can fill up while the other is read.
ChildProcess::ChildProcess(const std::string& program, const std::vector<std::string>& arguments) {
  const std::string out = directory_ / "out";
  const std::string err = directory_ / "err";
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  constexpr int kCreate = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, out.c_str(), kCreate, 0600);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, err.c_str(), kCreate, 0600);
  const std::vector<char*> argv = pointers(program, arguments);
  const int failed = posix_spawn(&pid_, program.c_str(), &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed != 0) throw std::runtime_error("cannot run " + program);
}

ChildProcess::~ChildProcess() {
  if (pid_ == 0) return;
  kill(SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void ChildProcess::kill(int signal) const {
  ::kill(pid_, signal);
}

std::string ChildProcess::out() const {
  return content(directory_ / "out");
}

std::string ChildProcess::err() const {
  return content(directory_ / "err");
}

ProcessResult ChildProcess::wait() {
  int status = 0;
  const pid_t pid = std::exchange(pid_, 0);
  if (::waitpid(pid, &status, 0) != pid) throw std::runtime_error("cannot wait for a program");
  return {exit_status(status), content(directory_ / "out"), content(directory_ / "err")};
}

ProcessResult run_process(const std::string& program, const std::vector<std::string>& arguments) {
  return ChildProcess(program, arguments).wait();
}

TerminalResult run_on_terminal(const std::string& program,
                               const std::vector<std::string>& arguments,
                               const TerminalOptions& options) {
  const TemporaryDirectory directory;
  const std::string out = directory / "out";
  const std::vector<char*> argv = pointers(program, arguments);
  const winsize size{.ws_row = 24, .ws_col = options.columns, .ws_xpixel = 0, .ws_ypixel = 0};
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (child < 0) throw std::runtime_error("cannot make a pseudo-terminal");
  if (child == 0) {  // only calls that are allowed between fork and exec
    if (!options.stdout_is_terminal) {
      const int file = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      ::dup2(file, STDOUT_FILENO);
      ::close(file);
    }
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
  TerminalResult result;
  result.written = read_terminal(terminal);
  int status = 0;
  ::waitpid(child, &status, 0);
  ::close(terminal);
  result.status = exit_status(status);
  result.out = content(out);
  return result;
}

}  // namespace tensor_pager::tests
