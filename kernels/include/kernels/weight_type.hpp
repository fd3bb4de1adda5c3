// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "kernels/export.hpp"

namespace tensor_pager::kernels {

/// Storage types of weights that the kernels can read. The values are GGUF's tensor type numbers.
enum class WeightType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  iq1_m = 29,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
  nvfp4 = 40,
};

/// Every WeightType, by ascending number.
[[nodiscard]] TENSOR_PAGER_EXPORT std::span<const WeightType> all_weight_types();

/// The type with this GGUF number; none if the kernels do not know it.
[[nodiscard]] TENSOR_PAGER_EXPORT std::optional<WeightType> weight_type(std::uint32_t gguf_type);

/// GGUF's name: "F32", "Q4_K", ... Throws Error if the value is not an enumerator, as do the
/// functions below.
[[nodiscard]] TENSOR_PAGER_EXPORT std::string_view name(WeightType type);

/// Elements that share one block: 1, 32, 64 or 256.
[[nodiscard]] TENSOR_PAGER_EXPORT std::size_t block_elements(WeightType type);

/// Bytes of one block.
[[nodiscard]] TENSOR_PAGER_EXPORT std::size_t block_bytes(WeightType type);

/// Bytes of a row of `elements` elements. Throws Error if they do not fill whole blocks.
[[nodiscard]] TENSOR_PAGER_EXPORT std::uint64_t row_bytes(WeightType type, std::uint64_t elements);

}  // namespace tensor_pager::kernels
