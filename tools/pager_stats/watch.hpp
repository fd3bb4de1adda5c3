// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>

#include "live.hpp"

namespace tensor_pager::pager_stats {

enum class LiveFormat { table, json, prometheus };

struct WatchOptions {
  pid_t process = 0;
  bool repeat = false;  ///< until the process ends or an interrupt comes; else once
  std::chrono::nanoseconds interval = std::chrono::seconds(1);
  LiveFormat format = LiveFormat::table;
  std::optional<PartOrder> parts{};
};

/// Prints what a process's pagers do to stdout: on a terminal in place, elsewhere one after
/// another. Throws Error if it cannot be watched.
void watch(const WatchOptions& options);

}  // namespace tensor_pager::pager_stats
