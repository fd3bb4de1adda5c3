// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cpu/code_book_formats.hpp"
#include "cpu/format_kernels.hpp"
#include "cpu/fp4_and_ternary_formats.hpp"
#include "cpu/kernel_table.hpp"

// Included like kernels.hpp, and by files of its own, since compiling takes long.

namespace tensor_pager::kernels::cpu {
namespace {

constexpr LowBitKernels make_low_bit_kernels() {
  return {.iq2_xxs = make_format_kernels<Iq2Xxs>(),
          .iq2_xs = make_format_kernels<Iq2Xs>(),
          .iq2_s = make_format_kernels<Iq2S>(),
          .iq3_xxs = make_format_kernels<Iq3Xxs>(),
          .iq3_s = make_format_kernels<Iq3S>(),
          .iq1_s = make_format_kernels<Iq1S>(),
          .iq1_m = make_format_kernels<Iq1M>(),
          .tq1_0 = make_format_kernels<Tq1_0>(),
          .tq2_0 = make_format_kernels<Tq2_0>(),
          .mxfp4 = make_format_kernels<Mxfp4>(),
          .nvfp4 = make_format_kernels<Nvfp4>()};
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
