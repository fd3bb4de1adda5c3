// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "pager/ids.hpp"

namespace tensor_pager {

/// What a stream's owner has to be told: copies failed that work in the stream waited for.
struct StreamReport {
  std::exception_ptr first;
  std::uint64_t copies = 0;  ///< of all that failed, `first` among them

  /// One exception for all of them: the first, and how many more there are.
  [[noreturn]] void raise() const;
};

/// Whose work relies on copies that have not ended. A failure belongs to the work that was to read
/// the page, not to the lease, which may have ended long before: it is kept for the stream's owner
/// until it is taken, once. Until a lease is handed out nothing is queued under it, and a failure
/// is the acquire's to report. Not thread-safe.
class StreamReports {
 public:
  /// Work in `stream` will rely on the copies, once the lease is handed out.
  void rely(LeaseId lease, StreamId stream, std::span<const CopyId> copies);
  /// The lease goes to its caller: from here on failures are the stream's. What has failed by then
  /// is returned instead, and the lease must not be handed out.
  std::exception_ptr hand_out(LeaseId lease);
  /// Nothing was queued under the lease, and nothing will be.
  void withdraw(LeaseId lease);

  /// Copies are told in the order in which they end.
  void ended(CopyId copy, const std::exception_ptr& failure);

  /// Whether work in the stream relies on a copy that has not ended.
  bool relying(StreamId stream) const;
  /// What the stream's owner was not told yet.
  std::optional<StreamReport> take(StreamId stream);
  /// The same for all streams.
  std::optional<StreamReport> take_all();

 private:
  struct Work {
    LeaseId lease{};
    StreamId stream{};
  };
  struct Pending {
    std::exception_ptr failure;  // of a copy that the lease relies on
  };

  std::multimap<CopyId, Work> relying_;
  std::map<LeaseId, Pending> pending_;  // leases that were not handed out yet
  std::map<StreamId, StreamReport> reports_;
};

}  // namespace tensor_pager
