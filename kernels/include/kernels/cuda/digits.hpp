// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/export.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// Tokens that products take as digits, at most.
inline constexpr std::size_t kMostFewTokens = 8;

/// Elements that share a factor in rows of digits.
inline constexpr std::size_t kDigitGroup = 256;

/// Floats from one row of digits to the next: a group's digits take no more memory than its floats.
constexpr std::size_t digits_stride(std::size_t cols) {
  return (cols + kDigitGroup - 1) / kDigitGroup * kDigitGroup;
}

/// A matrix [rows, cols] of few rows as products take it: fixed-point numbers of three signed
/// digits to the base 256, which tensor cores multiply with the codes of quantised weights without
/// rounding anything. Elements of a group are multiples of its largest magnitude / 8355711, so they
/// are off by at most 2^-24 of that: as much as float32 loses of the largest. A group in which
/// something is not finite is not a number as a whole; magnitudes below 2^-100 become zero.
///
/// Row t begins at data + t * digits_stride(cols) * sizeof(float), as float32 rows of that stride
/// would. Group g of a row takes the memory of its floats, so that floats can be turned into digits
/// where they are.
struct DigitsView {
  std::byte* data = nullptr;  ///< at a multiple of 16 bytes
  std::size_t rows = 0;
  std::size_t cols = 0;
};

/// x as digits. `out` may be x's memory, if x.stride is digits_stride(x.cols). Throws Error if the
/// shapes do not agree or the launch fails.
TENSOR_PAGER_EXPORT void split_digits(const ConstMatrixView& x, const DigitsView& out,
                                      cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
