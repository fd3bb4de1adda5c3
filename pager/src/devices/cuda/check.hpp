#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <string>

#include "pager/errors.hpp"
#include "pager/types.hpp"

namespace tensor_pager::cuda {

/// Throws DeviceError with the call, the bytes if any, and what CUDA says.
inline void check(cudaError_t error, const std::string& call) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error that was reported is not reported again
  throw DeviceError(call + " failed: " + cudaGetErrorName(error) + ": " +
                    cudaGetErrorString(error));
}

inline std::string with_bytes(const char* call, Bytes size) {
  return std::string(call) + " of " + std::to_string(size.count) + " bytes";
}

/// The driver calls that have no counterpart in the runtime. They are looked up when first needed,
/// so that a program that may use a GPU also starts where there is no driver.
class Driver {
 public:
  Driver();

  void check(CUresult result, const std::string& call) const;

  decltype(&cuMemAddressReserve) address_reserve = nullptr;
  decltype(&cuMemAddressFree) address_free = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  decltype(&cuMemGetAllocationGranularity) granularity = nullptr;
  decltype(&cuGetErrorName) error_name = nullptr;
  decltype(&cuGetErrorString) error_string = nullptr;
};

}  // namespace tensor_pager::cuda
