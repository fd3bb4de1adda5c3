#include "child_process.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

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
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
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

ProcessResult ChildProcess::wait() {
  int status = 0;
  const pid_t pid = std::exchange(pid_, 0);
  if (::waitpid(pid, &status, 0) != pid) throw std::runtime_error("cannot wait for a program");
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          content(directory_ / "out"), content(directory_ / "err")};
}

ProcessResult run_process(const std::string& program, const std::vector<std::string>& arguments) {
  return ChildProcess(program, arguments).wait();
}

}  // namespace tensor_pager::tests
