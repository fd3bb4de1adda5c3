// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cuda/digits.hpp"

// Rows of digits (kernels/cuda/digits.hpp) in memory.

namespace tensor_pager::kernels::cuda {

inline constexpr unsigned kDigits = 3;
inline constexpr unsigned kGroup = static_cast<unsigned>(kDigitGroup);

/// One group of a row. Element e is factor * sum over i of 256^i * digits[i][e].
struct DigitRecord {
  std::int8_t digits[kDigits][kGroup];
  float sums[kGroup / 8];  ///< of eight neighbours' values
  /// Of the sums of 32 neighbours' numbers, as integers: element e / 32 has factor * sum over i of
  /// 256^i * sum_digits[i][e / 32].
  std::int8_t sum_digits[kDigits + 1][kGroup / 32];
  float factor;
  float unused[23];
};
static_assert(sizeof(DigitRecord) == kGroup * sizeof(float));

// All digits of a number at 127.
inline constexpr float kLargestNumber = 8355711.0F;

// What is left of a number without its lowest digit, which is from -128 to 127.
__device__ inline int without_digit(int number) {
  return (number + 128) >> 8;
}

/// A warp turns a group of 256 values into a record: eight of each thread, from 8 * lane on.
/// Returns when all have read what they were given: the record may lie where the values came from.
__device__ inline void store_digits(const float (&v)[8], DigitRecord* record, unsigned lane) {
  constexpr unsigned kAll = 0xFFFFFFFFU;
  float largest = 0.0F;
  bool finite = true;
  float sum = 0.0F;
#pragma unroll
  for (const float x : v) {
    largest = fmaxf(largest, fabsf(x));
    finite = finite && isfinite(x);
    sum += x;
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kAll, largest, distance));
  }
  finite = __all_sync(kAll, finite ? 1 : 0) != 0;
  const bool zero = largest < 0x1p-100F;
  const float inverse = zero || !finite ? 0.0F : kLargestNumber / largest;
  std::uint32_t words[kDigits][2] = {};
  int total = 0;
#pragma unroll
  for (unsigned e = 0; e < 8; ++e) {
    const float scaled = fminf(fmaxf(v[e] * inverse, -kLargestNumber), kLargestNumber);
    int number = __float2int_rn(scaled);
    total += number;
#pragma unroll
    for (unsigned i = 0; i < kDigits; ++i) {
      words[i][e / 4] |= static_cast<std::uint32_t>(number & 255) << 8 * (e % 4);
      number = without_digit(number);
    }
  }
  total += __shfl_xor_sync(kAll, total, 1);
  total += __shfl_xor_sync(kAll, total, 2);
#pragma unroll
  for (unsigned i = 0; i < kDigits; ++i) {
    *reinterpret_cast<uint2*>(record->digits[i] + 8 * lane) = {words[i][0], words[i][1]};
  }
#pragma unroll
  for (unsigned i = 0; i <= kDigits; ++i) {
    if (lane % 4 == 0) record->sum_digits[i][lane / 4] = static_cast<std::int8_t>(total & 255);
    total = without_digit(total);
  }
  record->sums[lane] = zero ? 0.0F : sum;
  if (lane == 0) {
    record->factor = !finite ? __int_as_float(0x7FFFFFFF) : zero ? 0.0F : largest / kLargestNumber;
  }
}

/// The element as a float.
__device__ inline float digits_value(const DigitRecord& record, unsigned e) {
  const int number = record.digits[0][e] + 256 * record.digits[1][e] + 65536 * record.digits[2][e];
  return record.factor * static_cast<float>(number);
}

}  // namespace tensor_pager::kernels::cuda
