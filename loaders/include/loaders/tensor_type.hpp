// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "pager/export.hpp"
#include "pager/types.hpp"

namespace tensor_pager::loaders {

/// Storage types of GGUF tensors; the values are the numbers in the file. Every type that can be
/// measured is listed, whether or not there is a kernel for it. The gaps are types that the format
/// has withdrawn.
enum class TensorType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q8_1 = 9,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  q8_k = 15,
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  i8 = 24,
  i16 = 25,
  i32 = 26,
  i64 = 27,
  f64 = 28,
  iq1_m = 29,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
  nvfp4 = 40,
  q1_0 = 41,
  q2_0 = 42,
};

/// How a type is stored: rows are sequences of blocks of `block_elements` elements in `block_bytes`
/// bytes.
struct TensorTypeTraits {
  TensorType type;
  std::string_view name;  ///< as the GGUF world spells it: "Q4_K"
  std::uint32_t block_elements;
  std::uint32_t block_bytes;
};

/// Traits of a type. `type` must be an enumerator.
TENSOR_PAGER_EXPORT const TensorTypeTraits& traits(TensorType type);

/// The type with that number in a file, or nothing if there is none.
TENSOR_PAGER_EXPORT std::optional<TensorType> tensor_type_from_number(std::uint32_t number);

inline std::string_view to_string(TensorType type) {
  return traits(type).name;
}

/// Bytes of `elements` consecutive elements of one row; `elements` must be a whole number of
/// blocks.
inline Bytes bytes_of(TensorType type, std::uint64_t elements) {
  const TensorTypeTraits& t = traits(type);
  return {elements / t.block_elements * t.block_bytes};
}

}  // namespace tensor_pager::loaders
