// SPDX-License-Identifier: Apache-2.0
#include "cpu/kernel_table.hpp"
#include "cpu/lanes_avx2.hpp"
// The kernels are templates over the names that the header above defines, so it has to come first.
#include "cpu/low_bit_kernels.hpp"

namespace tensor_pager::kernels::cpu {

const LowBitKernels kAvx2LowBitKernels = make_low_bit_kernels();

}  // namespace tensor_pager::kernels::cpu
