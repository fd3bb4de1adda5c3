// SPDX-License-Identifier: Apache-2.0
#include "cpu/integer_lanes_avx512.hpp"
#include "cpu/integer_table.hpp"
// The kernels are templates over the names that the header above defines, so it has to come first.
#include "cpu/integer_kernels.hpp"

namespace tensor_pager::kernels::cpu {

const IntegerKernels kAvx512VnniIntegerKernels = make_integer_kernels();

}  // namespace tensor_pager::kernels::cpu
