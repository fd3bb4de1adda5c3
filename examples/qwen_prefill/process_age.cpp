// SPDX-License-Identifier: Apache-2.0
#include "process_age.hpp"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>

namespace tensor_pager::qwen_prefill {

std::chrono::nanoseconds process_age() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  // Field 22 of proc(5), counted from behind the program's name, which may hold anything.
  std::istringstream fields(line.substr(std::min(line.rfind(')'), line.size())));
  std::string field;
  for (int i = 2; i < 22; ++i) fields >> field;
  long long ticks = 0;  // from boot to start
  timespec now{};
  if (!(fields >> ticks) || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return {};
  const std::chrono::nanoseconds started{ticks * (1'000'000'000 / sysconf(_SC_CLK_TCK))};
  const auto age =
      std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec) - started;
  return std::max<std::chrono::nanoseconds>(age, {});
}

}  // namespace tensor_pager::qwen_prefill
