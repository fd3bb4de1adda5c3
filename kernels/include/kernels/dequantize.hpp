// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "kernels/export.hpp"
#include "kernels/instruction_set.hpp"
#include "kernels/weight_type.hpp"

namespace tensor_pager::kernels::cpu {

/// Writes `elements` weights as float32 to out. `blocks` need no alignment. Bit-identical to the
/// formats' reference (every product and difference rounded to float32, nothing fused), on every
/// instruction set. Runs on the caller's thread. Throws Error if `elements` do not fill whole
/// blocks.
TENSOR_PAGER_EXPORT void dequantize(WeightType type, const std::byte* blocks, float* out,
                                    std::size_t elements,
                                    InstructionSet instruction_set = best_instruction_set());

}  // namespace tensor_pager::kernels::cpu
