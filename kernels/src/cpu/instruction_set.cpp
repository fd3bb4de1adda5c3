// SPDX-License-Identifier: Apache-2.0
#include "kernels/instruction_set.hpp"

#ifdef TENSOR_PAGER_KERNELS_X86
#include <cpuid.h>
#endif

#include <algorithm>
#include <string>
#include <vector>

#include "cpu/integer_table.hpp"
#include "cpu/kernel_table.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

#ifdef TENSOR_PAGER_KERNELS_X86
// Clang 14's __builtin_cpu_supports does not know this one.
bool has_f16c() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

std::vector<InstructionSet> detect() {
  std::vector<InstructionSet> sets{InstructionSet::scalar};
#ifdef TENSOR_PAGER_KERNELS_X86
  // These also ask the operating system whether it saves the wide registers.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
    sets.push_back(InstructionSet::avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
      sets.push_back(InstructionSet::avx512);
      if (__builtin_cpu_supports("avx512vnni")) sets.push_back(InstructionSet::avx512_vnni);
    }
  }
#endif
  return sets;
}

}  // namespace

std::string_view name(InstructionSet set) {
  switch (set) {
    case InstructionSet::scalar:
      return "scalar";
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512:
      return "avx512";
    case InstructionSet::avx512_vnni:
      return "avx512_vnni";
  }
  return "unknown";
}

std::span<const InstructionSet> available_instruction_sets() {
  static const std::vector<InstructionSet> sets = detect();
  return sets;
}

InstructionSet best_instruction_set() {
  return available_instruction_sets().back();
}

const KernelTable& kernel_table(InstructionSet set) {
  const auto available = available_instruction_sets();
  if (std::find(available.begin(), available.end(), set) == available.end()) {
    throw Error("instruction set " + std::string(name(set)) +
                " does not run on this processor; use best_instruction_set()");
  }
#ifdef TENSOR_PAGER_KERNELS_X86
  if (set >= InstructionSet::avx512) return kAvx512Kernels;
  if (set == InstructionSet::avx2) return kAvx2Kernels;
#endif
  return kPortableKernels;
}

const IntegerKernels* integer_kernels(InstructionSet set) {
  switch (set) {
#ifdef TENSOR_PAGER_KERNELS_X86
    case InstructionSet::avx2:
      return &kAvx2IntegerKernels;
    case InstructionSet::avx512:
      return &kAvx512IntegerKernels;
    case InstructionSet::avx512_vnni:
      return &kAvx512VnniIntegerKernels;
#endif
    default:
      return nullptr;
  }
}

const IntegerFormat* integer_format(const IntegerKernels& kernels, WeightType type) {
  switch (type) {
    case WeightType::q4_0:
      return &kernels.q4_0;
    case WeightType::q4_1:
      return &kernels.q4_1;
    case WeightType::q5_0:
      return &kernels.q5_0;
    case WeightType::q5_1:
      return &kernels.q5_1;
    case WeightType::q8_0:
      return &kernels.q8_0;
    case WeightType::q2_k:
      return &kernels.q2_k;
    case WeightType::q3_k:
      return &kernels.q3_k;
    case WeightType::q4_k:
      return &kernels.q4_k;
    case WeightType::q5_k:
      return &kernels.q5_k;
    case WeightType::q6_k:
      return &kernels.q6_k;
    case WeightType::iq4_nl:
      return &kernels.iq4_nl;
    case WeightType::iq4_xs:
      return &kernels.iq4_xs;
    default:
      return nullptr;
  }
}

const FormatKernels& format_kernels(const KernelTable& table, WeightType type) {
  switch (type) {
    case WeightType::f32:
      return table.f32;
    case WeightType::f16:
      return table.f16;
    case WeightType::q4_0:
      return table.q4_0;
    case WeightType::q4_1:
      return table.q4_1;
    case WeightType::q5_0:
      return table.q5_0;
    case WeightType::q5_1:
      return table.q5_1;
    case WeightType::q8_0:
      return table.q8_0;
    case WeightType::q2_k:
      return table.q2_k;
    case WeightType::q3_k:
      return table.q3_k;
    case WeightType::q4_k:
      return table.q4_k;
    case WeightType::q5_k:
      return table.q5_k;
    case WeightType::q6_k:
      return table.q6_k;
    case WeightType::iq4_nl:
      return table.iq4_nl;
    case WeightType::iq4_xs:
      return table.iq4_xs;
    case WeightType::iq2_xxs:
      return table.low_bit.iq2_xxs;
    case WeightType::iq2_xs:
      return table.low_bit.iq2_xs;
    case WeightType::iq2_s:
      return table.low_bit.iq2_s;
    case WeightType::iq3_xxs:
      return table.low_bit.iq3_xxs;
    case WeightType::iq3_s:
      return table.low_bit.iq3_s;
    case WeightType::iq1_s:
      return table.low_bit.iq1_s;
    case WeightType::iq1_m:
      return table.low_bit.iq1_m;
    case WeightType::tq1_0:
      return table.low_bit.tq1_0;
    case WeightType::tq2_0:
      return table.low_bit.tq2_0;
    case WeightType::mxfp4:
      return table.low_bit.mxfp4;
    case WeightType::nvfp4:
      return table.low_bit.nvfp4;
    case WeightType::bf16:
      return table.bf16;
  }
  throw Error("weight type " + std::to_string(static_cast<std::uint32_t>(type)) +
              " has no kernels");
}

}  // namespace tensor_pager::kernels::cpu
