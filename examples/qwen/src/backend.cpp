// SPDX-License-Identifier: Apache-2.0
#include "qwen/backend.hpp"

#include <fmt/format.h>

#include <utility>

#include "pager/host_device.hpp"
#include "pager/mapped_file_store.hpp"
#include "qwen/cpu_operations.hpp"
#include "qwen/error.hpp"
#include "qwen/host_memory.hpp"

#ifdef TENSOR_PAGER_CUDA
#include "pager/cuda_device.hpp"
#include "pager/pinned_store.hpp"
#include "qwen/cuda_operations.hpp"
#endif

namespace tensor_pager::qwen {

Backend host_backend(const Model& model, Trace* trace, double link_bytes_per_second) {
  auto files = std::make_shared<const MappedFileStore>(model.gguf.paths());
  Backend backend{
      .device = make_host_device(
          {.link_bytes_per_second = link_bytes_per_second, .link_latency = {}, .trace = trace}),
      .operations = std::make_unique<CpuOperations>(),
      .store = files,
      .store_description = "mapped file",
      .free_memory = available_host_memory()};
  if (link_bytes_per_second == 0) {
    backend.in_place = [files, trace] { return make_in_place_device(files, trace); };
  }
  return backend;
}

#ifdef TENSOR_PAGER_CUDA

int gpu_count() {
  return cuda_device_count();
}

Backend cuda_backend(const Model& model, const CudaBackendOptions& options) {
  if (gpu_count() == 0) throw Error("no GPU was found; use --device host");
  const std::uint32_t head = model.config.key_length;
  if (head != 64 && head != 128 && head != 256) {
    throw Error(fmt::format(
        "heads of {} elements are not supported on a GPU, only 64, 128 and 256; use --device host",
        head));
  }
  Backend backend;
  backend.device = make_cuda_device({.gpu = options.gpu,
                                     .link_bytes_per_second = options.link_bytes_per_second,
                                     .trace = options.trace});
  backend.operations = std::make_unique<CudaOperations>(options.gpu);
  if (options.store) {
    backend.store = options.store;
    backend.store_description = "store of an earlier run";
  } else {
    PinnedStore pinned =
        make_pinned_store(model.gguf.paths(), {.gpu = options.gpu, .pin_files = options.pin_files});
    backend.store = std::move(pinned.store);
    backend.store_description = std::move(pinned.description);
  }
  backend.free_memory = cuda_free_memory(options.gpu);
  // Weights cross the link once per ubatch where a layer does not fit the arena, they are
  // dequantised once per ubatch, and products of fewer tokens leave the tensor cores waiting.
  backend.useful_ubatch = 8192;
  return backend;
}

#else

int gpu_count() {
  return 0;
}

Backend cuda_backend(const Model& /*model*/, const CudaBackendOptions& /*options*/) {
  throw Error("no GPU was found: this build has no CUDA; use --device host");
}

#endif

MemoryRequest request_for(const Backend& backend, const Model& model, MemoryRequest request) {
  request.page_granularity = backend.device->info().page_granularity;
  request.useful_ubatch = backend.useful_ubatch;
  request.cache_type = backend.operations->cache_type();
  const Operations* const operations = backend.operations.get();
  request.activation_bytes = [operations](std::size_t rows, std::size_t cols) {
    return operations->activation_bytes(rows, cols);
  };
  request.scratch = [operations, &model, context = request.context,
                     budget = request.vram](const PassSize& size) {
    return operations->scratch_bytes(model.config, size, context, budget);
  };
  return request;
}

}  // namespace tensor_pager::qwen
