// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cuda/few_tokens.hpp"
#include "cuda/few_tokens_shape.cuh"
#include "cuda/hopper.cuh"
#include "cuda/row_stages.cuh"

// What warps of the product of a few tokens sum up, and how their sums become its elements.

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kBuffers = 2;

// What a thread sums up: of its columns of each tile, and for its own units of each token.
template <class Format, unsigned kTokens>
struct Sums {
  float columns[kTiles<Format, kTokens>][4] = {};
  float offsets[kTokens][2] = {};
};

// A warp's sums of a tile: of pairs of columns.
template <class Format>
constexpr unsigned kPairs = 2 * kScalesOfQuad<Format>;  // of a token
template <class Format, unsigned kTokens>
struct Partial {
  float pairs[4 * kTiles<Format, kTokens>][kRows];
  float offsets[kHasOffsets<Format> ? kTokens : 1][kRows];
};

// Leaves a warp's sums of a part for the one that finishes the tile, or adds them to what it has
// left of this column's others.
template <class Format, unsigned kTokens>
__device__ void leave(const Sums<Format, kTokens>& sums, bool first,
                      Partial<Format, kTokens>& partial) {
  const auto put = [&](float& to, float sum) { to = first ? sum : to + sum; };
#pragma unroll
  for (unsigned i = 0; i < kTiles<Format, kTokens>; ++i) {
    const float(&columns)[4] = sums.columns[i];
#pragma unroll
    for (unsigned r = 0; r < 2; ++r) {
      put(partial.pairs[4 * i + quad()][lane() / 4 + 8 * r], columns[2 * r + 1] + columns[2 * r]);
    }
  }
  if constexpr (kHasOffsets<Format>) {
#pragma unroll
    for (unsigned t = 0; t < kTokens; ++t) {
#pragma unroll
      for (unsigned r = 0; r < 2; ++r) {
        float sum = sums.offsets[t][r];
        sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
        sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
        if (quad() == 0) put(partial.offsets[t][lane() / 4 + 8 * r], sum);
      }
    }
  }
}

// Adds what all warps have left, in order, and writes the rows of a matrix's tile.
template <class Format, unsigned kTokens, unsigned kWarps>
__device__ void finish(const FewTokens& p, const FewTokensMatrix& m, unsigned tile, unsigned warps,
                       const Partial<Format, kTokens> (&partials)[kWarps]) {
  const unsigned in_tile = lane() % kRows;
  const unsigned row = tile * kRows + in_tile;
  for (unsigned token = lane() / kRows; token < p.tokens; token += 32 / kRows) {
    float total = 0.0F;
    for (unsigned column = 0; column < p.columns_of_parts; ++column) {
      constexpr unsigned kOfPairs = kPairs<Format>;
      float sums[kOfPairs] = {};
      float offsets = 0.0F;
      for (unsigned w = column; w < warps; w += p.columns_of_parts) {
        const bool first = w == column;
#pragma unroll
        for (unsigned k = 0; k < kOfPairs; ++k) {
          const float pair = partials[w].pairs[token * kOfPairs + k][in_tile];
          sums[k] = first ? pair : sums[k] + pair;
        }
        if constexpr (kHasOffsets<Format>) {
          const float offset = partials[w].offsets[token][in_tile];
          offsets = first ? offset : offsets + offset;
        }
      }
#pragma unroll
      for (unsigned k = 0; k < kOfPairs; ++k) total += sums[k];
      if constexpr (kHasOffsets<Format>) total += offsets;
    }
    if (row >= m.rows) continue;
    total *= m.factor;
    if (m.bias != nullptr) total += m.bias[row];
    float* y = m.y + token * m.y_stride + row;
    *y = m.accumulate ? *y + total : total;
  }
}

// The warps of a block finish its tiles in turn; the others leave their sums and go on, until they
// would have to leave some where those of kBuffers tiles ago have not been read. By named barriers:
// one for each buffer that has been filled, one for each that has been read.
template <class Format, unsigned kTokens, unsigned kWarps>
class Turns {
 public:
  using Partials = Partial<Format, kTokens>[kBuffers][kWarps];
  __device__ Turns(Partials& partials, unsigned warps) : partials_(partials), warps_(warps) {
    // As those do who have finished the two tiles before the first.
    if (finished_two_ago(0)) hopper::pass_named(1 + kBuffers, 32 * warps);
    if (finished_two_ago(1)) hopper::pass_named(2 + kBuffers, 32 * warps);
  }

  // Of a tile's first part, or of another.
  __device__ void end_part(const Sums<Format, kTokens>& sums, bool first) {
    // Whoever has read it has passed already.
    if (first && !finished_two_ago(next_)) hopper::wait_named(read(), 32 * warps_);
    leave(sums, first, partials_[buffer_][warp()]);
  }
  __device__ void end_tile(const FewTokens& p, const FewTokensMatrix& m, unsigned tile) {
    if (next_ == warp()) {
      hopper::wait_named(filled(), 32 * warps_);
      finish(p, m, tile, warps_, partials_[buffer_]);
      hopper::pass_named(read(), 32 * warps_);
    } else {
      hopper::pass_named(filled(), 32 * warps_);
    }
    buffer_ = (buffer_ + 1) % kBuffers;
    next_ = next_ + 1 == warps_ ? 0 : next_ + 1;
  }

 private:
  // If it is warp `next`'s turn: whether it was this one's two tiles ago.
  __device__ bool finished_two_ago(unsigned next) const {
    const auto warps = static_cast<int>(warps_);
    const int after = static_cast<int>(next) - static_cast<int>(warp());
    return after == 2 || after == 2 - warps || after == 2 - 2 * warps;
  }
  __device__ unsigned filled() const { return 1 + buffer_; }
  __device__ unsigned read() const { return 1 + kBuffers + buffer_; }

  Partials& partials_;
  unsigned warps_;
  unsigned next_ = 0;  // the warp whose turn it is
  unsigned buffer_ = 0;
};

}  // namespace
}  // namespace tensor_pager::kernels::cuda
