#pragma once

#include <utility>
#include <vector>

#include "devices/cuda/check.hpp"

namespace tensor_pager::cuda {

/// Events to use again and again: creating one costs more than recording it.
class EventPool {
 public:
  explicit EventPool(unsigned flags) : flags_(flags) {}
  ~EventPool() {
    for (cudaEvent_t event : idle_)
      cudaEventDestroy(event);  // fails harmlessly while the process exits
  }
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;

  cudaEvent_t take() {
    if (idle_.empty()) {
      cudaEvent_t event = nullptr;
      check(cudaEventCreateWithFlags(&event, flags_), "cudaEventCreate");
      return event;
    }
    cudaEvent_t event = idle_.back();
    idle_.pop_back();
    return event;
  }
  void give_back(cudaEvent_t event) { idle_.push_back(event); }

 private:
  unsigned flags_;
  std::vector<cudaEvent_t> idle_;
};

/// Whether the work before the event is done. Throws if the GPU reports a failure.
inline bool passed(cudaEvent_t event, const char* what) {
  const cudaError_t error = cudaEventQuery(event);
  if (error == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check(error, what);
  return true;
}

}  // namespace tensor_pager::cuda
