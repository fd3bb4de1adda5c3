// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <mutex>

#include "pager/statistics.hpp"

namespace tensor_pager {

/// The memory that a device object holds. Thread-safe.
class MemoryCount {
 public:
  void add(Bytes size) {
    const std::lock_guard lock(mutex_);
    memory_.current += size;
    memory_.peak = std::max(memory_.peak, memory_.current);
  }
  void remove(Bytes size) noexcept {
    const std::lock_guard lock(mutex_);
    memory_.current -= size;
  }
  MemoryStatistics get() const {
    const std::lock_guard lock(mutex_);
    return memory_;
  }

 private:
  mutable std::mutex mutex_;
  MemoryStatistics memory_;
};

}  // namespace tensor_pager
