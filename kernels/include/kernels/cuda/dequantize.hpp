// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/operand.hpp"
#include "kernels/export.hpp"
#include "kernels/matmul.hpp"
#include "kernels/weight_type.hpp"

namespace tensor_pager::kernels::cuda {

/// Writes `elements` weights as float32 to out, bit-identical to cpu::dequantize. `blocks` is at an
/// even device address (of f32: a multiple of 4), out at a multiple of 16. Queued in the stream, as
/// is everything in this namespace. Throws Error if `elements` do not fill whole blocks, if an
/// address is odd, or if the launch fails.
TENSOR_PAGER_EXPORT void dequantize(WeightType type, const std::byte* blocks, float* out,
                                    std::size_t elements, cudaStream_t stream);

/// The same values rounded to the nearest half, ties to even.
TENSOR_PAGER_EXPORT void dequantize(WeightType type, const std::byte* blocks, __half* out,
                                    std::size_t elements, cudaStream_t stream);

/// Rows of w rounded to operands of a product, `stride` elements apart: w.cols rounded up to a
/// multiple of 8, the rest zeros.
TENSOR_PAGER_EXPORT void dequantize_rows(const Weights& w, Operand* out, std::size_t stride,
                                         cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
