// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pager/types.hpp"

namespace tensor_pager::qwen {

/// What the system has given this process, and what it has not. Zeros where it does not say.
struct ProcessUsage {
  double processor = 0;  ///< seconds that threads ran, added up
  /// Seconds for which threads could have run, and others had the processors: other programs, or
  /// more threads than there are cores. Of threads that live now, added up.
  double waited = 0;
  Bytes disk;  ///< that had to be read from disks

  ProcessUsage operator-(const ProcessUsage& before) const {
    return {processor - before.processor, waited - before.waited, disk - before.disk};
  }
  ProcessUsage operator+(const ProcessUsage& more) const {
    return {processor + more.processor, waited + more.waited, disk + more.disk};
  }
  /// Whether so much of the processors was missing that times say little about this machine: a
  /// tenth of what was asked for, and more than a moment.
  bool was_starved() const { return waited > 0.02 && waited > 0.1 * (processor + waited); }
};

/// Since the process began. Reads a few files of /proc.
ProcessUsage process_usage();

}  // namespace tensor_pager::qwen
