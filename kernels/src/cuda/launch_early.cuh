// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "cuda/device_facts.hpp"
#include "cuda/launch.hpp"

// Kernels that follow each other in a stream and are short: where the GPU can (from Hopper on), the
// next one is put on the multiprocessors while the last one still runs, and waits there
// ("programmatic dependent launch" in the CUDA programming guide).

namespace tensor_pager::kernels::cuda {

/// To be called by every thread of a kernel that is launched early, before it reads or writes
/// anything that kernels before it write or read.
__device__ inline void begin_after_others() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

struct LaunchShape {
  dim3 grid;
  dim3 threads;
  std::size_t shared;
  cudaStream_t stream;
};

/// Lets a kernel take so much dynamic shared memory, once for each device: asking takes as long as
/// a short kernel. `allowed` is the kernel's own.
template <class Argument>
void allow_shared(void (*kernel)(Argument), std::size_t bytes,
                  std::atomic<std::uint64_t>& allowed) {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice", {});
  const std::uint64_t bit = device < 64 ? std::uint64_t{1} << device : 0;
  if ((allowed.load(std::memory_order_relaxed) & bit) != 0) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        "cudaFuncSetAttribute", {bytes});
  allowed.fetch_or(bit, std::memory_order_relaxed);
}

/// Launches a kernel that calls begin_after_others(). Whoever asks for the last error is told of
/// one.
template <class Argument>
void launch_early(void (*kernel)(Argument), const LaunchShape& shape, const Argument& argument) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = shape.shared;
  config.stream = shape.stream;
  config.attrs = &early;
  config.numAttrs = facts_of_device().has_hopper_code ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, argument);
}

}  // namespace tensor_pager::kernels::cuda
