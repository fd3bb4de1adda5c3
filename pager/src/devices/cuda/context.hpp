// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <new>
#include <optional>

#include "birthplace.hpp"
#include "devices/cuda/driver.hpp"

namespace tensor_pager::cuda {

/// Lets the calling thread make calls that would invalidate a capture that it, or any other thread,
/// has begun. At the end the thread's capture mode is what it was.
class RelaxedCapture {
 public:
  RelaxedCapture() noexcept;
  ~RelaxedCapture();
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  const Driver& driver_;
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;  // then the thread's own
};

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

/// Makes a context the calling thread's until it is destroyed; then the thread has the one that it
/// had. Every entry point that calls CUDA holds one.
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

  bool entered_ = false;
  bool pushed_ = false;
  std::optional<RelaxedCapture> relaxed_;
};

}  // namespace tensor_pager::cuda
