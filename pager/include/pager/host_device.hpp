// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "pager/device.hpp"
#include "pager/export.hpp"
#include "pager/trace.hpp"

namespace tensor_pager {

/// A queue of work that runs on a thread of its own, in order: what a CUDA stream is to the host.
/// It lets programs and tests use the host device asynchronously. Work queued when the stream is
/// destroyed is run first.
class TENSOR_PAGER_EXPORT HostStream {
 public:
  HostStream();
  ~HostStream();
  HostStream(const HostStream&) = delete;
  HostStream& operator=(const HostStream&) = delete;

  void launch(std::function<void()> work);
  /// Returns when all work queued so far is done.
  void synchronize();

  StreamRef ref() { return {this}; }

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

struct HostDeviceOptions {
  /// Bytes per second that the link carries at most; 0 is as fast as memory allows.
  double link_bytes_per_second = 0;
  /// Time from the start of a copy to its first byte.
  std::chrono::nanoseconds link_latency{};
  /// Copies are recorded here if set. It outlives the device.
  Trace* trace = nullptr;
};

/// Paging in host memory: the address range is a reservation without access rights, a frame is a
/// piece of a memfd mapped into it read-only, and a thread of its own copies. It needs no GPU, and
/// it really pages: reading a page that was never brought in is a segmentation fault, and so is
/// writing to any page.
TENSOR_PAGER_EXPORT std::unique_ptr<Device> make_host_device(const HostDeviceOptions& options = {});

}  // namespace tensor_pager
