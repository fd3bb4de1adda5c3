// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "pager/backing_store.hpp"
#include "pager/export.hpp"

// Built only where a CUDA toolkit was found; TENSOR_PAGER_CUDA is defined then.

namespace tensor_pager {

struct PinnedStoreOptions {
  int gpu = 0;
  /// Register the mapped files themselves, without a second copy; otherwise copy them to pinned
  /// memory.
  bool pin_files = true;
  /// Threads that register or read; 0 is one per core, at most 8.
  unsigned threads = 0;
};

struct PinnedStore {
  std::shared_ptr<const BackingStore> store;
  /// Which kind was taken, and why: "pinned file", "pinned copy: cuMemHostRegister of ... failed:
  /// ...".
  std::string description;
};

/// A store from which the GPU reads by itself, at the link's full rate. The files' mappings are
/// registered with CUDA read-only, piece by piece by several threads, so that the first pages can
/// be used while the rest is under way. Where registering files is refused, or not wanted, their
/// bytes are read into huge-page memory near the GPU instead. Offsets are those of a
/// MappedFileStore. Throws StoreError or DeviceError if neither is possible.
///
/// Neither this nor the store changes what the calling thread has of CUDA: see make_cuda_device.
TENSOR_PAGER_EXPORT PinnedStore make_pinned_store(const std::vector<std::filesystem::path>& files,
                                                  const PinnedStoreOptions& options = {});

}  // namespace tensor_pager
