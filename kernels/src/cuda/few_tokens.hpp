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
  unsigned parts, columns_of_parts;  ///< of a row: Parts in few_tokens.cuh
  unsigned count;                    ///< of matrices
  FewTokensMatrix matrices[kMostTogether];
  /// For Hopper's copy engine (map_rows): of each matrix, every rows_apart-th row is as far from
  /// the next as it needs them. Those of a tile are a panel of panel_rows.
  unsigned rows_apart, panel_rows;
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

/// The same with products of two types, each at most kMostTogether, in one launch. False, and
/// nothing has been done, if there is no kernel for these types, or not for matrices that lie or
/// are as large as these, or if there are no second ones.
bool multiply_few_of_two(std::span<const FewTokensProduct> first,
                         std::span<const FewTokensProduct> second, const DigitsView& x,
                         cudaStream_t stream);

// The kernels of quantised types; in files of their own, since compiling takes long. False for
// other types.
bool multiply_few_blocks_of_32(WeightType type, const FewTokens& p, unsigned multiprocessors,
                               cudaStream_t stream);
bool multiply_few_k(WeightType type, const FewTokens& p, unsigned multiprocessors,
                    cudaStream_t stream);
bool multiply_few_iq2(WeightType type, const FewTokens& p, unsigned multiprocessors,
                      cudaStream_t stream);
bool multiply_few_low_bit(WeightType type, const FewTokens& p, unsigned multiprocessors,
                          cudaStream_t stream);

/// For those that need no division, of one token.
bool multiply_few_of_two(WeightType first_type, WeightType second_type, const FewTokens& first,
                         const FewTokens& second, unsigned multiprocessors, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
