// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "birthplace.hpp"
#include "devices/copy_ledger.hpp"
#include "devices/progress.hpp"
#include "pager/device.hpp"
#include "pager/host_device.hpp"

namespace tensor_pager {

/// Brings one page in, and returns the bytes that were copied for it. Throws StoreError.
using Transfer = std::function<Bytes()>;
/// What will bring a page in to where it is mapped now.
using Transfers = std::function<Transfer(const BackingStore& store, PageIndex page)>;

/// A thread that copies, as fast as the link that is imitated.
class HostCopyEngine final : public CopyEngine {
 public:
  /// `transfers` is called by the thread that starts copies, what it returns by the one that
  /// copies.
  HostCopyEngine(const HostDeviceOptions& options, Transfers transfers,
                 std::shared_ptr<Progress> progress);
  /// Carries out what was started: streams may wait for it.
  ~HostCopyEngine() override;

  CopyId copy(const BackingStore& store, PageRun pages) override;
  std::optional<EndedCopy> take_ended() override;
  void wait(StreamRef stream, CopyId copy) override;
  LinkStatistics statistics() const override;

 private:
  struct Request {
    CopyId id{};
    std::vector<Transfer> transfers;  // by page
    PageRun pages;
  };
  class Endings;

  void run();
  void carry_out(const Request& request);
  void pace(Trace::Time begin, Bytes size) const;
  void require_here() const { birthplace_.require_here("this host device"); }

  const Birthplace birthplace_;
  const HostDeviceOptions options_;
  const Transfers transfers_;
  const std::shared_ptr<Progress> progress_;
  const std::shared_ptr<Endings> endings_;  // streams that wait have it too

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> requests_;
  bool stop_ = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace tensor_pager
