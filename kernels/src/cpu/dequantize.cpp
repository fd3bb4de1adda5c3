// SPDX-License-Identifier: Apache-2.0
#include "kernels/dequantize.hpp"

#include "cpu/kernel_table.hpp"

namespace tensor_pager::kernels::cpu {

void dequantize(WeightType type, const std::byte* blocks, float* out, std::size_t elements,
                InstructionSet instruction_set) {
  static_cast<void>(row_bytes(type, elements));  // throws if they do not fill whole blocks
  format_kernels(kernel_table(instruction_set), type).dequantize(blocks, out, elements);
}

}  // namespace tensor_pager::kernels::cpu
