// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "live.hpp"

namespace tensor_pager::pager_stats {

struct Options {
  std::optional<std::string> file;  ///< of a run that has ended; or
  std::optional<pid_t> process;     ///< one that runs
  std::optional<std::string> other;
  std::optional<std::string> trace;  ///< of the same run as the file, for
  std::optional<std::string> page;   ///< a report
  bool json = false;
  bool prometheus = false;
  bool watch = false;
  double interval = 1;  ///< seconds
  std::optional<PartOrder> parts;
};

/// Throws UsageError, or TextRequest.
Options parse_options(int argc, const char* const* argv);

}  // namespace tensor_pager::pager_stats
