// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace tensor_pager::kernels::cuda {

struct DeviceFacts {
  unsigned multiprocessors = 0;
  /// Whether this library's kernels run there as they were compiled for Hopper or later, and not as
  /// those for an earlier GPU.
  bool has_hopper_code = false;
};

/// Of the thread's current device; asked for once for each. Throws Error if CUDA does not say.
const DeviceFacts& facts_of_device();

}  // namespace tensor_pager::kernels::cuda
