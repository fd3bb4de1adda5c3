// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>

#include "pager/device.hpp"
#include "pager/trace.hpp"

namespace tensor_pager {

/// What a copy engine keeps of its copies: their numbers, how those that have ended did, the
/// link's statistics, and their spans in the trace. Thread-safe.
class CopyLedger {
 public:
  /// The trace may be nullptr.
  explicit CopyLedger(Trace* trace) : trace_(trace) {}

  struct End {
    CopyId id{};
    PageRun pages{};
    Trace::Time begin{};
    Trace::Time end{};
    Bytes copied{};  ///< that arrived; less than the pages if the copy failed
    std::exception_ptr failure{};
  };

  /// The number of the next copy.
  CopyId start();
  /// Copies end in the order in which they were started.
  void ended(const End& end);
  bool has_ended(CopyId copy) const;
  std::optional<EndedCopy> take_ended();
  LinkStatistics statistics() const;

 private:
  Trace* const trace_;
  mutable std::mutex mutex_;
  std::uint64_t started_ = 0;
  std::uint64_t ended_ = 0;
  std::deque<EndedCopy> untaken_;
  LinkStatistics link_;
};

}  // namespace tensor_pager
