// SPDX-License-Identifier: Apache-2.0
#include "devices/cuda/stream_checks.hpp"

#include <atomic>
#include <cstdint>
#include <string>

namespace tensor_pager::cuda {

namespace {

/// Ids that the driver does not give: it counts streams from 0.
constexpr std::uint64_t kDefaultStream = std::uint64_t{1} << 62;
constexpr std::uint64_t kPerThreadStreams = std::uint64_t{1} << 63;

bool is_default(CUstream stream) {
  return stream == nullptr || stream == CU_STREAM_LEGACY;
}

std::uint64_t number_of_this_thread() {
  static std::atomic<std::uint64_t> threads = 0;
  static thread_local const std::uint64_t number = ++threads;
  return number;
}

/// The GPU of a context that is not the pager's.
CUdevice device_of(CUcontext context) {
  check(driver().cuCtxPushCurrent(context), "cuCtxPushCurrent");
  CUdevice device = 0;
  const CUresult result = driver().cuCtxGetDevice(&device);
  driver().cuCtxPopCurrent(&context);
  check(result, "cuCtxGetDevice");
  return device;
}

}  // namespace

void require_not_captured(StreamRef stream) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  const CUresult result = driver().cuStreamIsCapturing(stream_of(stream), &status);
  if (result == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) {
    throw Error(
        "the default stream cannot be used while a stream that waits for it is being captured; "
        "acquire pages outside of the capture, or give a stream made with cudaStreamNonBlocking");
  }
  check(result, "cuStreamIsCapturing");
  if (status == CU_STREAM_CAPTURE_STATUS_NONE) return;
  throw Error(
      "the stream is being captured; acquire pages outside of the capture, and hold the lease "
      "while the graph is replayed");
}

void require_stream_of(const Context& context, StreamRef stream) {
  const CUstream handle = stream_of(stream);
  if (is_default(handle) || handle == CU_STREAM_PER_THREAD) return;  // of the current context
  CUcontext owner = nullptr;
  check(driver().cuStreamGetCtx(handle, &owner), "cuStreamGetCtx");
  if (owner == context.handle()) return;
  const CUdevice device = device_of(owner);
  if (device == context.device()) {
    throw Error("the stream belongs to another CUDA context of GPU " +
                std::to_string(context.gpu()) +
                "; give a stream of the primary context, made with cudaStreamCreate");
  }
  throw Error("the stream belongs to GPU " + std::to_string(device) +
              ", but the pages are on GPU " + std::to_string(context.gpu()) +
              "; give a stream of that one");
}

StreamId stream_id(StreamRef stream) {
  const CUstream handle = stream_of(stream);
  if (is_default(handle)) return StreamId{kDefaultStream};
  if (handle == CU_STREAM_PER_THREAD) return StreamId{kPerThreadStreams | number_of_this_thread()};
  unsigned long long id = 0;
  check(driver().cuStreamGetId(handle, &id), "cuStreamGetId");
  return StreamId{id};
}

}  // namespace tensor_pager::cuda
