#include "command_line/run_program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "command_line/interrupt.hpp"
#include "command_line/parser.hpp"

namespace tensor_pager::command_line {
namespace {

constexpr int kFailure = 1;
constexpr int kWrongUsage = 2;
constexpr int kSignalled = 128;  // and the signal, as shells have it

int fail(std::string_view program, int status, std::string message) {
  std::ranges::replace(message, '\n', ' ');  // one line, whatever a library says
  fmt::print(stderr, "{}: {}\n", program, message);
  return status;
}

void finish_output() {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  const std::string cause = errno != 0 ? ": " + std::generic_category().message(errno) : "";
  throw std::runtime_error("stdout: cannot write" + cause +
                           "; is the disk full, or the reader gone?");
}

}  // namespace

int run_program(std::string_view name, const std::function<void()>& work,
                std::string_view out_of_memory) {
  try {
    try {
      work();
    } catch (const TextRequest& text) {
      fmt::print("{}", text.what());
    }
    finish_output();
    return 0;
  } catch (const UsageError& error) {
    return fail(name, kWrongUsage, fmt::format("{}; see --help", error.what()));
  } catch (const Interrupted& interrupted) {
    return fail(name, kSignalled + interrupted.signal(), interrupted.what());
  } catch (const std::bad_alloc&) {
    return fail(name, kFailure, fmt::format("out of host memory; {}", out_of_memory));
  } catch (const std::exception& error) {
    return fail(name, kFailure, error.what());
  }
}

}  // namespace tensor_pager::command_line
