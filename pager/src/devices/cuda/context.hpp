#pragma once

#include <new>

#include "birthplace.hpp"
#include "devices/cuda/driver.hpp"

namespace tensor_pager::cuda {

/// The primary context of a GPU, which is the one that the CUDA runtime uses as well.
class Context {
 public:
  /// Throws DeviceError if there is no such GPU.
  explicit Context(int gpu);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  int gpu() const { return gpu_; }
  CUdevice device() const { return device_; }
  CUcontext handle() const { return handle_; }

  bool elsewhere() const noexcept { return birthplace_.elsewhere(); }
  /// Throws Error in a forked process.
  void require_here() const { birthplace_.require_here("this CUDA device"); }

 private:
  Birthplace birthplace_;
  int gpu_;
  CUdevice device_ = 0;
  CUcontext handle_ = nullptr;
};

/// Makes a context the calling thread's until it is destroyed, and lets the thread make calls that
/// would invalidate a capture that the caller, or any other thread, has begun. At the end both are
/// what they were. Every entry point that calls CUDA holds one.
class CurrentContext {
 public:
  /// Throws DeviceError if the context is lost, Error in a forked process.
  explicit CurrentContext(const Context& context);
  /// For destructors: while the process exits, or in a forked one, this is false and CUDA is left
  /// alone.
  CurrentContext(const Context& context, std::nothrow_t) noexcept;
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

  explicit operator bool() const { return entered_; }

 private:
  CUresult enter(const Context& context) noexcept;

  const Driver* driver_ = nullptr;
  bool pushed_ = false;
  bool entered_ = false;
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;  // the thread's own
};

}  // namespace tensor_pager::cuda
