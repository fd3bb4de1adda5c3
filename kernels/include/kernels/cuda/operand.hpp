#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

namespace tensor_pager::kernels::cuda {

/// Whether matrix products round their operands to bfloat16 instead of half. Halves keep three more
/// bits (2^-11 relative instead of 2^-8) at the same speed; their smaller range is what
/// MatmulOptions::scale_rows is for. The one place to change, to measure the other.
inline constexpr bool kBfloatOperands = false;

/// What the tensor cores multiply; sums are float32.
using Operand = std::conditional_t<kBfloatOperands, __nv_bfloat16, __half>;

}  // namespace tensor_pager::kernels::cuda
