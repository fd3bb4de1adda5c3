// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "birthplace.hpp"
#include "devices/copy_ledger.hpp"
#include "devices/host/address_range.hpp"
#include "devices/progress.hpp"
#include "pager/device.hpp"
#include "pager/host_device.hpp"

namespace tensor_pager {

/// A thread that copies, as fast as the link that is imitated.
class HostCopyEngine final : public CopyEngine {
 public:
  /// `range` outlives this.
  HostCopyEngine(const HostDeviceOptions& options, const HostAddressRange& range,
                 std::shared_ptr<Progress> progress);
  /// Carries out what was started: streams may wait for it.
  ~HostCopyEngine() override;

  CopyId copy(const BackingStore& store, PageRun pages) override;
  std::optional<EndedCopy> take_ended() override;
  void wait(StreamRef stream, CopyId copy) override;
  LinkStatistics statistics() const override;

 private:
  struct Piece {
    Bytes offset;
    std::span<std::byte> out;
  };
  struct Request {
    CopyId id{};
    const BackingStore* store = nullptr;
    std::vector<Piece> pieces;
    PageRun pages;
  };
  class Endings;

  void run();
  void carry_out(const Request& request);
  void pace(Trace::Time begin, Bytes size) const;
  void require_here() const { birthplace_.require_here("this host device"); }

  const Birthplace birthplace_;
  const HostDeviceOptions options_;
  const HostAddressRange& range_;
  const std::shared_ptr<Progress> progress_;
  const std::shared_ptr<Endings> endings_;  // streams that wait have it too

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> requests_;
  bool stop_ = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace tensor_pager
