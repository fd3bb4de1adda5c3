// SPDX-License-Identifier: Apache-2.0
#include "devices/cuda/context.hpp"

#include <string>

namespace tensor_pager::cuda {

RelaxedCapture::RelaxedCapture() noexcept : driver_(driver()) {
  driver_.cuThreadExchangeStreamCaptureMode(&mode_);
}

RelaxedCapture::~RelaxedCapture() {
  driver_.cuThreadExchangeStreamCaptureMode(&mode_);
}

Context::Context(int gpu) : gpu_(gpu) {
  const Driver& cuda = driver();
  const int count = device_count();
  if (count == 0) throw DeviceError("no GPU was found: CUDA offers no device on this machine");
  if (gpu < 0 || gpu >= count) {
    throw DeviceError("GPU " + std::to_string(gpu) + " does not exist: CUDA has " +
                      std::to_string(count) + ", counted from 0");
  }
  const RelaxedCapture relaxed;
  check(cuda.cuDeviceGet(&device_, gpu), "cuDeviceGet");
  check(cuda.cuDevicePrimaryCtxRetain(&handle_, device_), "cuDevicePrimaryCtxRetain");
}

Context::~Context() {
  if (elsewhere()) return;
  const RelaxedCapture relaxed;
  driver().cuDevicePrimaryCtxRelease(device_);
}

CurrentContext::CurrentContext(const Context& context) {
  context.require_here();
  check(enter(context), "making a CUDA context current");
}

CurrentContext::CurrentContext(const Context& context, std::nothrow_t) noexcept {
  if (!context.elsewhere()) enter(context);
}

CurrentContext::~CurrentContext() {
  CUcontext ours = nullptr;
  if (pushed_) driver().cuCtxPopCurrent(&ours);
}

/// Most callers use the primary context already: then nothing is pushed.
CUresult CurrentContext::enter(const Context& context) noexcept {
  const Driver& cuda = driver();
  CUcontext current = nullptr;
  CUresult result = cuda.cuCtxGetCurrent(&current);
  if (result != CUDA_SUCCESS) return result;
  if (current != context.handle()) {
    result = cuda.cuCtxPushCurrent(context.handle());
    if (result != CUDA_SUCCESS) return result;
    pushed_ = true;
  }
  relaxed_.emplace();
  entered_ = true;
  return CUDA_SUCCESS;
}

}  // namespace tensor_pager::cuda
