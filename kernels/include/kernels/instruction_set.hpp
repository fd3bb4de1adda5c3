// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "kernels/export.hpp"

namespace tensor_pager::kernels::cpu {

/// Which of the compiled variants of a kernel runs. Dequantised weights are the same bits in all of
/// them; products of floats, attention and activations may differ in the last bits, since the
/// number of partial sums follows the vector width. Where matmul() multiplies integers, all sets
/// from avx2 on give equal bits, but not those of scalar.
enum class InstructionSet {
  scalar,       ///< baseline of the processor family, in the compiler's portable vectors
  avx2,         ///< AVX2, FMA, F16C
  avx512,       ///< AVX-512 F, BW, VL, DQ, and all of avx2
  avx512_vnni,  ///< AVX-512 VNNI, and all of avx512
};

/// "scalar", "avx2", "avx512", "avx512_vnni".
[[nodiscard]] TENSOR_PAGER_EXPORT std::string_view name(InstructionSet set);

/// Sets that are compiled in and that this processor and its system run; scalar first, the best one
/// last.
[[nodiscard]] TENSOR_PAGER_EXPORT std::span<const InstructionSet> available_instruction_sets();

/// The last of available_instruction_sets(). What every kernel uses unless told otherwise.
[[nodiscard]] TENSOR_PAGER_EXPORT InstructionSet best_instruction_set();

}  // namespace tensor_pager::kernels::cpu
