// SPDX-License-Identifier: Apache-2.0
#include "cpu/kernel_table.hpp"
#include "cpu/lanes_portable.hpp"
// The kernels are templates over the names that the header above defines, so it has to come first.
#include "cpu/kernels.hpp"

namespace tensor_pager::kernels::cpu {

const KernelTable kPortableKernels = make_kernel_table(kPortableLowBitKernels);

}  // namespace tensor_pager::kernels::cpu
