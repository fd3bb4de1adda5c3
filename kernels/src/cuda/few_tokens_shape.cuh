// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cuda/row_stages.cuh"
#include "cuda/units.cuh"

// How the product of a few tokens is divided: between warps, and into columns of tensor cores'
// tiles.

namespace tensor_pager::kernels::cuda {
namespace {

// A block's warps share a tile (row_stages.cuh), each taking groups of 256 columns in turn, and go
// on to the block's next. Where rows are long (parts_for), a block has as many warps as a
// multiprocessor has room for, else a quarter of them.
constexpr unsigned kFewWarps = 5;
template <class Format>
constexpr unsigned kManyWarps = 20 * (sizeof(Stage<Format, Way::mapped>) * 2 + 1024) <= 227 * 1024
                                    ? 20
                                    : 16;
// Of several tokens, sums take the registers of two blocks, and warps are few.
template <unsigned kTokens, unsigned kWarps>
constexpr unsigned kBlocksPerMultiprocessor = kWarps > kFewWarps ? 1
                                              : kTokens == 1     ? 4
                                                                 : 2;

// Threads of a quad whose units have scales of their own have columns of their own. A token has
// four for each scale, of which the last is the fourth digit of sums, or nothing.
template <class Format>
constexpr unsigned kScalesOfQuad = 4 / Format::kUnitsPerScale;
// Of eight columns.
template <class Format, unsigned kTokens>
constexpr unsigned kTiles = (4 * kScalesOfQuad<Format> * kTokens + 7) / 8;

// Runs whose codes are not of the same size have sums of their own, of integers.
template <class Format>
constexpr unsigned kSets = [] {
  if constexpr (kHasIntegers<Format>) return Format::kSecondFactor == 1 ? 1 : 2;
  return 1;
}();

// How many warps share a block's rows: one less where that leaves fewer of them without work in the
// last round.
constexpr unsigned warps_for(unsigned items, unsigned most) {
  if (items <= most) return items;
  const auto idle = [&](unsigned warps) { return (warps - items % warps) % warps * most; };
  const unsigned rounds = (items + most - 1) / most;
  return idle(most) > rounds * most / 2 && idle(most - 1) < idle(most) ? most - 1 : most;
}

// The parts whose sums a row's product is made of, and how they are added up: those of a column of
// parts in order, then the columns' sums. Items, groups that are copied together, are dealt out to
// parts in turn. A warp has a part, or all parts of a column. That is the definition of a product's
// bits, so it depends on the type and the columns only.
struct Parts {
  unsigned count, columns;
};

// From this many items on, there are parts for the warps of a whole multiprocessor: tiles of long
// rows are too few to go round otherwise.
constexpr unsigned kManyItems = 35;

template <class Format>
constexpr Parts parts_for(unsigned items) {
  if (items < kManyItems) {
    const unsigned warps = warps_for(items, kFewWarps);
    return {warps, warps};
  }
  const unsigned columns = warps_for((items + 3) / 4, kManyWarps<Format> / 4);
  return {4 * columns, columns};
}

__device__ inline unsigned quad() {
  return threadIdx.x % 4;
}

// Offsets are a block's minima, which are multiplied like codes, or are added up in float32.
template <class Format>
constexpr bool kHasMinima = Format::kAffine&& kHasHeader<Format>;
template <class Format>
constexpr bool kHasOffsets = Format::kAffine && !kHasMinima<Format>;

}  // namespace
}  // namespace tensor_pager::kernels::cuda
