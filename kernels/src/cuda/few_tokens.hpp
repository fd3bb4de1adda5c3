// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/digits.hpp"
#include "kernels/cuda/matmul.hpp"

namespace tensor_pager::kernels::cuda {

/// What the copy engine, or the cache, takes at once begins at multiples of it: bytes.
inline constexpr unsigned kUnit = 16;

/// Matrices that are multiplied together, at most.
inline constexpr unsigned kMostTogether = 3;

/// One of them, and where its product goes.
struct FewTokensMatrix {
  const std::uint8_t* w;
  float* y;
  std::size_t y_stride;
  const float* bias;
  unsigned rows;
  float factor;
  bool accumulate;
};

/// What multiply_few multiplies together: matrices of one type and as many columns, with the same
/// inputs.
struct FewTokens {
  const std::byte* x;  ///< as DigitsView
  unsigned row_bytes, cols, tokens;
  unsigned count;  ///< of matrices
  FewTokensMatrix matrices[kMostTogether];
  /// For Hopper's copy engine (map_rows): of each matrix, every rows_apart-th row is as far from
  /// the next as it needs them.
  unsigned rows_apart;
  CUtensorMap maps[kMostTogether];
};

/// Makes the maps, of panels `bytes` wide, so that those of a tile of `rows` rows are rows_apart
/// panels, at most most_apart. False if this GPU has no such engine, or the matrices do not lie as
/// it needs them.
bool map_rows(FewTokens& p, unsigned bytes, unsigned rows, unsigned most_apart);

/// For each: y[t, r] = factor * w[r] . x[t] (+ bias[r]) (+ y[t, r]) for up to kMostFewTokens rows
/// of x. The bits of y[t, r] depend on row r and token t only. All products have weights of one
/// type and as many columns as x. Throws Error if the type has no kernels or a launch fails.
void multiply_few(std::span<const FewTokensProduct> products, const DigitsView& x,
                  cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
