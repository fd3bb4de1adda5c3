// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <string>

#include "pager/errors.hpp"
#include "pager/types.hpp"

namespace tensor_pager::cuda {

/// The calls of the CUDA driver that the pager makes. There are no others, and none of the CUDA
/// runtime: that keeps an error and a device for each thread, which are the caller's.
#define TENSOR_PAGER_CUDA_CALLS(call)      \
  call(cuGetErrorName);                    \
  call(cuGetErrorString);                  \
  call(cuInit);                            \
  call(cuDeviceGetCount);                  \
  call(cuDeviceGet);                       \
  call(cuDeviceGetName);                   \
  call(cuDeviceGetAttribute);              \
  call(cuDevicePrimaryCtxRetain);          \
  call(cuDevicePrimaryCtxRelease);         \
  call(cuCtxGetCurrent);                   \
  call(cuCtxPushCurrent);                  \
  call(cuCtxPopCurrent);                   \
  call(cuCtxGetDevice);                    \
  call(cuThreadExchangeStreamCaptureMode); \
  call(cuStreamCreate);                    \
  call(cuStreamDestroy);                   \
  call(cuStreamSynchronize);               \
  call(cuStreamWaitEvent);                 \
  call(cuStreamIsCapturing);               \
  call(cuStreamGetCtx);                    \
  call(cuStreamGetId);                     \
  call(cuEventCreate);                     \
  call(cuEventDestroy);                    \
  call(cuEventRecord);                     \
  call(cuEventQuery);                      \
  call(cuEventSynchronize);                \
  call(cuEventElapsedTime);                \
  call(cuMemGetInfo);                      \
  call(cuMemAlloc);                        \
  call(cuMemFree);                         \
  call(cuMemsetD8Async);                   \
  call(cuMemcpyHtoDAsync);                 \
  call(cuMemAllocHost);                    \
  call(cuMemFreeHost);                     \
  call(cuMemHostRegister);                 \
  call(cuMemHostUnregister);               \
  call(cuMemAddressReserve);               \
  call(cuMemAddressFree);                  \
  call(cuMemCreate);                       \
  call(cuMemRelease);                      \
  call(cuMemMap);                          \
  call(cuMemUnmap);                        \
  call(cuMemSetAccess);                    \
  call(cuMemGetAllocationGranularity)

struct Driver {
// NOLINTNEXTLINE(bugprone-macro-parentheses): a member's name has none
#define TENSOR_PAGER_CUDA_MEMBER(name) decltype(&::name) name = nullptr
  TENSOR_PAGER_CUDA_CALLS(TENSOR_PAGER_CUDA_MEMBER);
#undef TENSOR_PAGER_CUDA_MEMBER
};

/// The driver's calls, looked up once per process, when they are first needed: a program that may
/// use a GPU also starts where there is no driver. Throws DeviceError if there is none, Error in a
/// process that was forked after that.
const Driver& driver();

/// How many GPUs the driver offers; 0 if there is no driver, or it cannot be used here.
int device_count() noexcept;

/// Throws DeviceError with the call, the bytes if any, and what CUDA says.
void check(CUresult result, const char* call);
void check(CUresult result, const char* call, Bytes size);

/// Whether the call means that the GPU has not got there. Throws if it failed.
bool not_ready(CUresult result, const char* call);

std::string with_bytes(const char* call, Bytes size);

/// "1 GiB of 80 GiB", of the current context's GPU.
std::string free_memory();

}  // namespace tensor_pager::cuda
