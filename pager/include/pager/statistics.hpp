// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

#include "pager/types.hpp"

namespace tensor_pager {

/// What the link to the device has carried, counted where the bytes are moved.
struct LinkStatistics {
  Bytes copied;
  std::uint64_t copies = 0;
  std::chrono::nanoseconds busy{};  ///< time during which a copy was under way
};

/// Memory that this device object holds: frames and buffers.
struct MemoryStatistics {
  Bytes current;
  Bytes peak;
};

/// Relations that always hold: accesses = hits + prefetched + late; loads >= evictions.
struct CoreCounters {
  std::uint64_t accesses = 0;    ///< pages of all leases
  std::uint64_t hits = 0;        ///< were resident, and not because this access was foreseen
  std::uint64_t prefetched = 0;  ///< were brought in for this access, in time
  std::uint64_t late = 0;        ///< were still on their way, or not even that
  std::uint64_t loads = 0;       ///< pages for which a copy was commanded
  std::uint64_t failed_loads = 0;
  std::uint64_t evictions = 0;  ///< pages whose frame was given to another page, or given up
  std::uint64_t remaps = 0;  ///< pages that were mapped to a frame: when a plan gives each page its
                             ///< frame, or when a page comes to another frame than it had last
  std::uint64_t rescues =
      0;  ///< pages given up that were taken back before their frame was reused: copies saved
  std::uint64_t rollbacks = 0;  ///< times that decisions not yet carried out were undone
  std::uint64_t optimal_loads =
      0;          ///< pages that Belady's rule would have copied with every frame and no prefetch
  Bytes loaded;   ///< bytes of `loads`
  Bytes optimal;  ///< bytes of `optimal_loads`
};

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
