// SPDX-License-Identifier: Apache-2.0
#include "command_line/run_program.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "command_line/bus_error.hpp"
#include "command_line/interrupt.hpp"
#include "command_line/note.hpp"
#include "command_line/parser.hpp"
#include "command_line/prepare_files.hpp"

namespace tensor_pager::command_line {
namespace {

constexpr int kFailure = 1;
constexpr int kWrongUsage = 2;
constexpr int kSignalled = 128;  // and the signal, as shells have it

int fail(std::string_view program, int status, std::string_view message) {
  note_line(program, message);
  return status;
}

[[noreturn]] void throw_output_failure(int error) {
  const std::string cause = error != 0 ? ": " + std::generic_category().message(error) : "";
  throw std::runtime_error("stdout: cannot write" + cause +
                           "; is the disk full, or the reader gone?");
}

void finish_output() {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  throw_output_failure(errno);
}

void work_and_print(const std::function<void()>& work) {
  try {
    try {
      work();
    } catch (const TextRequest& text) {
      fmt::print("{}", text.what());
    }
    finish_output();
  } catch (const std::system_error& error) {
    // Text longer than the stream's buffer fails while fmt prints it, which names no file.
    if (std::ferror(stdout) != 0) throw_output_failure(error.code().value());
    throw;
  }
}

}  // namespace

int run_program(std::string_view name, const std::function<void()>& work,
                std::string_view out_of_memory) {
  prepare_files();
  const BusErrorGuard mappings(name);
  try {
    work_and_print(work);
    return 0;
  } catch (const UsageError& error) {
    return fail(name, kWrongUsage, fmt::format("{}; see --help", error.what()));
  } catch (const Interrupted& interrupted) {
    return fail(name, kSignalled + interrupted.signal(), interrupted.what());
  } catch (const std::bad_alloc&) {
    return fail(name, kFailure, fmt::format("out of host memory; {}", out_of_memory));
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again) {
      return fail(name, kFailure, error.what());
    }
    return fail(
        name, kFailure,
        fmt::format("starting a thread failed: {}; allow more of them (ulimit -u)", error.what()));
  } catch (const std::exception& error) {
    return fail(name, kFailure, error.what());
  }
}

}  // namespace tensor_pager::command_line
