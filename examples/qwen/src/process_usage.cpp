// SPDX-License-Identifier: Apache-2.0
#include "qwen/process_usage.hpp"

#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace tensor_pager::qwen {
namespace {

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

double processor_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// sched-stats(5): nanoseconds on a processor, nanoseconds in a queue for one.
double queued_seconds() {
  double sum = 0;
  std::error_code ended;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task", ended)) {
    std::ifstream file(thread.path() / "schedstat");
    double ran = 0;
    double queued = 0;
    if (file >> ran >> queued) sum += queued / 1e9;
  }
  return sum;
}

Bytes disk_bytes() {
  std::ifstream file("/proc/self/io");
  std::string name;
  for (std::uint64_t value = 0; file >> name >> value;) {
    if (name == "read_bytes:") return {value};
  }
  return {};
}

}  // namespace

ProcessUsage process_usage() {
  return {processor_seconds(), queued_seconds(), disk_bytes()};
}

}  // namespace tensor_pager::qwen
