// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "pager/backing_store.hpp"
#include "pager/device.hpp"
#include "pager/trace.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"
#include "qwen/operations.hpp"

namespace tensor_pager::qwen {

/// What an inference runs on.
struct Backend {
  std::unique_ptr<Device> device;
  std::unique_ptr<Operations> operations;     ///< for devices of that kind
  std::shared_ptr<const BackingStore> store;  ///< the model's files
  std::string store_description;              ///< how they are kept on the host, and why so
  /// Makes a device that serves the store's files in place of `device`, which copies; an inference
  /// whose arena holds all that it reads takes it. Empty where there is none.
  std::function<std::unique_ptr<Device>()> in_place{};
  Bytes free_memory;                  ///< that the device has
  std::uint32_t useful_ubatch = 512;  ///< MemoryRequest::useful_ubatch
};

/// Host memory and the processor. `trace` outlives the backend. The link is memory itself, or
/// slower if `link_bytes_per_second` is not 0: then every page is copied, whatever the arena.
Backend host_backend(const Model& model, Trace* trace = nullptr, double link_bytes_per_second = 0);

struct CudaBackendOptions {
  int gpu = 0;
  bool pin_files = true;  ///< PinnedStoreOptions::pin_files
  Trace* trace = nullptr;
  double link_bytes_per_second = 0;  ///< CudaDeviceOptions::link_bytes_per_second
  /// The model's files as an earlier backend for the same GPU pinned them; none: they are pinned.
  std::shared_ptr<const BackingStore> store{};
};

/// How many GPUs there are for cuda_backend; 0 if this build has no CUDA.
int gpu_count();

/// A GPU, and files pinned for it. Throws Error if this build has no CUDA or the machine no GPU.
Backend cuda_backend(const Model& model, const CudaBackendOptions& options);

/// Completes a request with what the backend's operations need.
MemoryRequest request_for(const Backend& backend, const Model& model, MemoryRequest request);

}  // namespace tensor_pager::qwen
