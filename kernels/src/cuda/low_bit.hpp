// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/weight_type.hpp"

// The kernels of the formats in low_bit_formats.cuh; in a file of their own, since compiling takes
// long.

namespace tensor_pager::kernels::cuda {

/// `Out` is float or __half. `elements` fill whole blocks. Throws Error for another type.
template <class Out>
void dequantize_low_bit(WeightType type, const std::byte* blocks, Out* out, std::size_t elements,
                        cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
