// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "pager/device.hpp"
#include "pager/export.hpp"
#include "pager/trace.hpp"

// Built only where a CUDA toolkit was found; TENSOR_PAGER_CUDA is defined then.

namespace tensor_pager {

struct CudaDeviceOptions {
  int gpu = 0;  ///< CUDA ordinal
  /// Bytes per second that the link carries at most, to imitate a slower one; 0 is as fast as it
  /// is.
  double link_bytes_per_second = 0;
  /// Copies are recorded here if set, on the axis of the host's clock. It outlives the device.
  Trace* trace = nullptr;
};

/// How many GPUs the CUDA driver offers; 0 if there is no driver.
TENSOR_PAGER_EXPORT int cuda_device_count();

/// Memory that the GPU has free, in bytes. Throws DeviceError if there is no such GPU.
TENSOR_PAGER_EXPORT Bytes cuda_free_memory(int gpu);

/// Paging in GPU memory: the address range is cuMemAddressReserve, a frame is a cuMemCreate handle,
/// and copies are asynchronous, in a stream of their own. Throws DeviceError if there is no such
/// GPU.
///
/// Pages of a store that is not pinned pass through a small pinned buffer, which is slower: see
/// make_pinned_store.
///
/// A StreamRef's handle is a cudaStream_t (a CUstream) of the GPU's primary context, the one that
/// the CUDA runtime uses. Null is the default stream of the pager's GPU, and cudaStreamPerThread
/// the calling thread's own default stream there, whatever GPU the thread has selected. As the
/// latter names another stream on every thread, its leases end on the thread that acquired them.
/// Streams of other GPUs are refused, and so are streams that are being captured: acquire pages
/// outside of the capture, and hold the lease while the graph is replayed.
///
/// Nothing of this is seen by the caller's own use of CUDA, on any thread: the selected device, the
/// last error and a capture under way are what they were after every call.
///
/// CUDA does not survive fork: in the child every call throws Error, and destruction leaves
/// everything alone.
TENSOR_PAGER_EXPORT std::unique_ptr<Device> make_cuda_device(const CudaDeviceOptions& options = {});

}  // namespace tensor_pager
