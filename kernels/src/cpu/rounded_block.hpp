// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace tensor_pager::kernels::cpu {

/// Inputs that share one RoundedBlock, and those of them that share a scale.
inline constexpr std::size_t kBlockInputs = 256;
inline constexpr std::size_t kGroupInputs = 32;
inline constexpr std::size_t kBlockGroups = kBlockInputs / kGroupInputs;

/// 256 inputs of one token, each rounded to 16 bits: input = code * scale of its group, to within
/// half a scale, which is the group's largest magnitude / 32767.
///
/// A group's codes are its 16 inputs of even index, then its 16 of odd index: read as 16-bit words,
/// 32 bytes of weight codes are the even ones in the lower bytes and the odd ones in the upper.
struct alignas(64) RoundedBlock {
  std::int16_t codes[kBlockInputs];
  float scale[kBlockGroups];           ///< not a number if one of the group's inputs is none
  std::int32_t sums[3][kBlockGroups];  ///< of the group's codes, of its first half, of its second
  float totals[3][kBlockGroups];       ///< scale * sums
};

}  // namespace tensor_pager::kernels::cpu
