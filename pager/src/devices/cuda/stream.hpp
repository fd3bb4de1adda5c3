// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices/cuda/context.hpp"

namespace tensor_pager::cuda {

/// A stream of the pager's own, which waits for no other, and nothing but what it is told to waits
/// for it. It is empty before it is destroyed.
class Stream {
 public:
  explicit Stream(const Context& context) : context_(context) {
    const CurrentContext current(context_);
    check(driver().cuStreamCreate(&handle_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  }
  ~Stream() {
    const CurrentContext current(context_, std::nothrow);
    if (!current) return;
    driver().cuStreamSynchronize(handle_);
    driver().cuStreamDestroy(handle_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  CUstream handle() const { return handle_; }

 private:
  const Context& context_;
  CUstream handle_ = nullptr;
};

}  // namespace tensor_pager::cuda
