// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/launch.hpp"

namespace tensor_pager::kernels::cuda {

/// A moment in a stream, and when it was.
class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "EventCreate", {}); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "EventRecord", {}); }
  /// Milliseconds from `begin` until here. The host waits.
  float since(const Event& begin) const {
    float milliseconds = 0.0F;
    check(cudaEventSynchronize(event_), "EventSynchronize", {});
    check(cudaEventElapsedTime(&milliseconds, begin.event_, event_), "EventElapsedTime", {});
    return milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace tensor_pager::kernels::cuda
