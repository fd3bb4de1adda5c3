#pragma once

#include <chrono>
#include <cstdint>

#include "pager/core.hpp"
#include "pager/device.hpp"
#include "pager/types.hpp"

namespace tensor_pager {

/// What a pager has done since it was made. Counters only grow.
struct Statistics {
  Bytes page;
  Bytes arena;  ///< the budget
  std::uint32_t frames = 0;
  std::uint32_t peak_frames = 0;
  std::uint32_t pages = 0;
  std::uint32_t resident_pages = 0;
  CoreCounters core;
  LinkStatistics link;
  MemoryStatistics memory;
  /// Time for which streams had nothing to do but wait for pages, of leases that have ended. A
  /// stream that is the calling thread waits in acquire.
  std::chrono::nanoseconds stalled{};
};

}  // namespace tensor_pager
