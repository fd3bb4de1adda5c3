// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <mutex>

#include "cuda/device_facts.hpp"
#include "cuda/launch.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr int kHopper = 90;

// All kernels are compiled for the same GPUs, so any of them tells what code they have.
__global__ void nothing() {}

DeviceFacts ask(int device) {
  int count = 0;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
        "cudaDeviceGetAttribute", {});
  cudaFuncAttributes code{};
  check(cudaFuncGetAttributes(&code, nothing), "cudaFuncGetAttributes", {});
  return {static_cast<unsigned>(count), code.ptxVersion >= kHopper};
}

}  // namespace

const DeviceFacts& facts_of_device() {
  static std::mutex mutex;
  static std::map<int, DeviceFacts> known;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice", {});
  const std::lock_guard lock(mutex);
  const auto found = known.find(device);
  return found != known.end() ? found->second : known.emplace(device, ask(device)).first->second;
}

}  // namespace tensor_pager::kernels::cuda
