// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "pager/device.hpp"
#include "pager/export.hpp"
#include "pager/mapped_file_store.hpp"
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

/// The same without copies, for a pager on these files whose arena holds all that is read: a page
/// is a read-only mapping of the files themselves, so that it takes no memory beside the page
/// cache. To bring it in is to map it and to have its bytes read from disk where they are not in
/// memory. A page that was evicted can still be read until it is unmapped, and statistics count
/// copies of no bytes.
///
/// A file that is found too short when a page is brought in is a StoreError. One that is truncated
/// after that ends the program by a signal (SIGBUS) when the page is read; make_host_device copies,
/// and does not have that. `trace` outlives the device.
TENSOR_PAGER_EXPORT std::unique_ptr<Device> make_in_place_device(
    std::shared_ptr<const MappedFileStore> files, Trace* trace = nullptr);

}  // namespace tensor_pager
