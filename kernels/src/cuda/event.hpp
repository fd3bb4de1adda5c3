#pragma once

#include <cuda_runtime_api.h>

#include "cuda/launch.hpp"

namespace tensor_pager::kernels::cuda {

/// A moment in a stream.
class Event {
 public:
  enum class Timing : bool { none, kept };

  explicit Event(Timing timing = Timing::none) {
    check(cudaEventCreateWithFlags(
              &event_, timing == Timing::kept ? cudaEventDefault : cudaEventDisableTiming),
          "EventCreate", {});
  }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "EventRecord", {}); }
  /// What is queued in `stream` from now on waits for the moment recorded last, if there is one.
  void hold(cudaStream_t stream) const {
    check(cudaStreamWaitEvent(stream, event_, 0), "StreamWaitEvent", {});
  }
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
