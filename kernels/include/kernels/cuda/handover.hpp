// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/export.hpp"

namespace tensor_pager::kernels::cuda {

// Small vectors on their way between the GPU and pinned host memory that it can address, by
// kernels: a copy to the GPU would queue behind all copies of pages. `host` is aligned to 16 bytes.

/// Writes device[0, count) to `host`, then `ticket` to *flag, which is host memory, too: whoever
/// reads the ticket there with acquire ordering finds the vector. Throws Error if the launch fails,
/// as does the function below.
TENSOR_PAGER_EXPORT void write_to_host(const float* device, float* host, std::size_t count,
                                       unsigned* flag, unsigned ticket, cudaStream_t stream);

/// Reads host[0, count), as it is when the kernel runs, to `device`.
TENSOR_PAGER_EXPORT void read_from_host(const float* host, float* device, std::size_t count,
                                        cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
