// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>

#include "pager/export.hpp"
#include "pager/types.hpp"

namespace tensor_pager {

/// Device memory that several pagers share: their arenas together never take more. A pager takes
/// its arena from it when it is made and when it grows, and gives back what it gives up. Memory
/// that one gave up is another's to take, by `Pager::set_arena`. Thread-safe.
class TENSOR_PAGER_EXPORT ArenaBudget {
 public:
  explicit ArenaBudget(Bytes total) : total_(total), left_(total) {}
  ArenaBudget(const ArenaBudget&) = delete;
  ArenaBudget& operator=(const ArenaBudget&) = delete;

  Bytes total() const { return total_; }
  Bytes left() const {
    const std::lock_guard lock(mutex_);
    return left_;
  }

  /// Throws BudgetError, which says how much is left, and takes nothing, if that is too little.
  void take(Bytes size);
  void give_back(Bytes size) noexcept {
    const std::lock_guard lock(mutex_);
    left_ += size;
  }

 private:
  const Bytes total_;
  mutable std::mutex mutex_;
  Bytes left_;
};

}  // namespace tensor_pager
