// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/digits.cuh"
#include "cuda/few_tokens.hpp"
#include "cuda/hopper.cuh"
#include "cuda/units.cuh"

// The way of a matrix's rows to shared memory, for the product of a few tokens: a tile of sixteen
// rows at a time, some groups of 256 columns of each, by every warp for itself.

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kRows = 16;  // of a tile

__device__ inline unsigned lane() {
  return threadIdx.x % 32;
}

template <class Format>
constexpr unsigned kGroupBytes = kGroup / Format::kElements* Format::kBytes;
// Groups that are copied together: a copy's cost hardly depends on its size.
template <class Format>
constexpr unsigned kTogether = kGroupBytes<Format> <= 176 ? 2 : 1;

// How the rows of a matrix come to shared memory.
enum class Way {
  mapped,  // by a tensor map (map_rows)
  plain,   // sixteen bytes at a time
};

// Whether all groups that are copied begin at multiples of it if rows do. Where they do not, what
// comes before is copied along.
template <class Format>
constexpr bool kWhole = kTogether<Format>* kGroupBytes<Format> % kUnit == 0;

// Sixteen rows of some groups on their way through shared memory: as many bytes from one to the
// next as lets eight rows be read together, four times eight bytes of each. That takes neighbours'
// bytes along if a tensor map is used, since its panels have no gaps.
template <class Format, Way kWay>
struct alignas(128) Stage {
  static constexpr unsigned kBytes = kTogether<Format> * kGroupBytes<Format>;
  static constexpr bool kAtOnce = kWay == Way::mapped && kWhole<Format>;
  static constexpr unsigned kLead = kAtOnce ? 0 : kUnit - kLeastAlignment<Format>;  // at most
  static constexpr unsigned kChunks = (kLead + kBytes + kUnit - 1) / kUnit;
  static constexpr unsigned kOver = kUnit * kChunks % 128;
  static constexpr unsigned kPadding = (kOver <= 32 ? 32 : kOver <= 96 ? 96 : 160) - kOver;
  static constexpr unsigned kStride = kUnit * kChunks + kPadding;
  std::uint8_t rows[kRows][kStride];
};

// As many of a warp as fit.
template <class Format, Way kWay, unsigned kWarps>
constexpr unsigned kStages = sizeof(Stage<Format, kWay>) <= (kWarps > 8 ? 3200 : 3600) ? 3 : 2;

// What blocks in a stage begin at multiples of.
template <class Format, Way kWay>
constexpr int kBlocksAt = !Stage<Format, kWay>::kAtOnce ? kLeastAlignment<Format>
                          : kHasHeader<Format>          ? 16
                                                        : kBlockAlignment<Format>;

// Which of the blocks that have tiles of the same matrices this is. Their warps are not always all
// that a block has.
struct Share {
  unsigned block, blocks, warps;
};

__device__ inline unsigned warp() {
  return threadIdx.x / 32;
}

// What ends with a warp's work on some groups.
enum class Ended { nothing, part, tile };

// What a warp works on, one after the other: the groups of its parts of a tile, then of the block's
// next tile. Tiles of a matrix follow those of the one before. Places are offsets from a matrix's
// first weight: it has less than 4 GiB (multiply_few). With kOnePart, a warp has one part of each
// tile.
template <class Format, bool kOnePart>
struct Cursor {
  static constexpr unsigned kGroups = kTogether<Format>;
  Share share;
  unsigned matrix, tile, part, group, place;

  __device__ Cursor(const FewTokens& p, Share of_block)
      : share(of_block), matrix(0), tile(of_block.block) {
    begin(p);
  }
  __device__ void begin(const FewTokens& p) {
    while (matrix < p.count) {
      const unsigned tiles = (p.matrices[matrix].rows + kRows - 1) / kRows;
      if (tile < tiles) break;
      tile -= tiles;
      ++matrix;
    }
    begin_part(p, warp());
  }
  __device__ void begin_part(const FewTokens& p, unsigned of_tile) {
    part = of_tile;
    group = part * kGroups;
    place = tile * kRows * p.row_bytes + group * kGroupBytes<Format>;
  }
  __device__ Ended advance(const FewTokens& p) {
    group += step(p);
    place += step(p) * kGroupBytes<Format>;
    if (group * kGroup < p.cols) return Ended::nothing;
    if (has_next_part(p)) {
      begin_part(p, part + share.warps);
      return Ended::part;
    }
    tile += share.blocks;
    begin(p);
    return Ended::tile;
  }
  __device__ bool ended(const FewTokens& p) const { return matrix >= p.count; }
  /// The group that comes after the last one of this item.
  __device__ unsigned following(const FewTokens& p) const {
    const unsigned next = group + step(p);
    if (next * kGroup < p.cols) return next;
    return has_next_part(p) ? (part + share.warps) * kGroups : first_group();
  }
  __device__ static unsigned first_group() { return warp() * kGroups; }

 private:
  __device__ static unsigned step(const FewTokens& p) { return p.parts * kGroups; }
  __device__ bool has_next_part(const FewTokens& p) const {
    return !kOnePart && part + share.warps < p.parts;
  }
};

// How far into sixteen bytes a place is.
__device__ inline unsigned lead(const FewTokensMatrix& m, unsigned place) {
  return (static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(m.w)) + place) % kUnit;
}

// What a row's copy is: sixteen bytes at a multiple of sixteen never leave a page, so what is
// copied beyond its ends is there.
template <class Format>
struct RowCopy {
  const std::uint8_t* from;
  unsigned bytes;  // none for a row that is not there

  template <class AnyCursor>
  __device__ RowCopy(const FewTokens& p, const AnyCursor& cursor, unsigned row) {
    using S = Stage<Format, Way::plain>;
    const FewTokensMatrix& m = p.matrices[cursor.matrix];
    const unsigned place = cursor.place + row * p.row_bytes;
    const unsigned before = lead(m, place);
    // What is left of the row, if that is less than a group.
    const unsigned left = p.row_bytes - cursor.group * kGroupBytes<Format>;
    from = m.w + place - before;  // which may be before the first weight
    bytes = (before + (left < S::kBytes ? left : S::kBytes) + kUnit - 1) / kUnit * kUnit;
    if (cursor.tile * kRows + row >= m.rows) bytes = 0;
  }
};

// A warp's copies to its stages. Those of an item have arrived after as many calls of wait() as
// there were of ask() before and for it; all threads of the warp call them together.
template <class Format, Way kWay, unsigned kDepth>
class Copies {
 public:
  using S = Stage<Format, kWay>;

#if __CUDA_ARCH__ >= 900
  // By the copy engine: by panels of every k-th row, or a thread asks for each.
  __device__ Copies(const FewTokens& p, S* stages, std::uint64_t* barriers)
      : stages_(address_of(stages)), barriers_(address_of(barriers)), rows_(p) {
    if (lane() == 0) {
#pragma unroll
      for (unsigned i = 0; i < kDepth; ++i) {
        hopper::init_barrier(barriers_ + 8 * i, kWay == Way::mapped ? 1 : kRows);
      }
      hopper::publish_barriers();
    }
    __syncwarp();
  }
  template <class AnyCursor>
  __device__ void ask(const FewTokens& p, const AnyCursor& cursor, unsigned slot) const {
    if (cursor.ended(p) || lane() >= (kWay == Way::mapped ? 1 : kRows)) return;
    const std::uint32_t barrier = barriers_ + 8 * slot;
    if constexpr (kWay == Way::mapped) {
      hopper::arrive_and_expect(barrier, sizeof(S));
      const unsigned panels = S::kAtOnce ? 1 : p.rows_apart;
      const unsigned rows = S::kAtOnce ? kRows : p.panel_rows;
      for (unsigned i = 0; i < panels; ++i) {
        const unsigned from =
            (i * p.row_bytes + cursor.group * kGroupBytes<Format>) / kUnit * kUnit;
        hopper::copy_panel(stage(slot) + i * rows * S::kStride, p.maps[cursor.matrix],
                           static_cast<int>(cursor.tile * rows), static_cast<int>(from / 2),
                           barrier);
      }
    } else {
      const RowCopy<Format> copy(p, cursor, lane());
      hopper::arrive_and_expect(barrier, copy.bytes);
      if (copy.bytes == 0) return;
      hopper::copy_bytes(stage(slot) + lane() * S::kStride, copy.from, copy.bytes, barrier);
    }
  }
  __device__ void wait(unsigned slot, unsigned round) const {
    hopper::wait(barriers_ + 8 * slot, round % 2);
  }
#else
  // Sixteen bytes at a time; the copies of a call are a group, be there any or not.
  __device__ Copies(const FewTokens& p, S* stages, std::uint64_t* /*barriers*/)
      : stages_(address_of(stages)), rows_(p) {}
  template <class AnyCursor>
  __device__ void ask(const FewTokens& p, const AnyCursor& cursor, unsigned slot) const {
    for (unsigned chunk = lane(); chunk < kRows * S::kChunks; chunk += 32) {
      if (cursor.ended(p)) break;
      const unsigned row = chunk / S::kChunks;
      const unsigned at = chunk % S::kChunks * kUnit;
      const RowCopy<Format> copy(p, cursor, row);
      if (at >= copy.bytes) continue;
      asm volatile(
          "cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(stage(slot) + row * S::kStride + at),
          "l"(copy.from + at)
          : "memory");
    }
    asm volatile("cp.async.commit_group;\n" ::: "memory");
  }
  __device__ void wait(unsigned /*slot*/, unsigned /*round*/) const {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kDepth - 1) : "memory");
    __syncwarp();
  }
#endif

  __device__ std::uint32_t stage(unsigned slot) const {
    return stages_ + slot * sizeof(S);
  }

  /// Where a thread's rows of what is at the cursor begin: lane() / 4, and eight on.
  template <class AnyCursor>
  __device__ std::uint32_t row(const FewTokens& p, const AnyCursor& at, unsigned slot,
                               unsigned i) const {
    if constexpr (S::kAtOnce) {
      return stage(slot) + (lane() / 4 + 8 * i) * S::kStride;
    } else if constexpr (kWay == Way::mapped) {
      // Rows that are eight apart are of one panel.
      const unsigned before = (rows_.lead + at.group * kGroupBytes<Format>) % kUnit;
      return stage(slot) + rows_.first + i * rows_.apart + before;
    } else {
      const unsigned row = lane() / 4 + 8 * i;
      const unsigned before = lead(p.matrices[at.matrix], at.place + row * p.row_bytes);
      return stage(slot) + row * S::kStride + before;
    }
  }

 private:
  __device__ static std::uint32_t address_of(const void* shared) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  }

  // Where a thread's rows are in panels, once for all stages.
  struct Rows {
    unsigned first = 0, apart = 0, lead = 0;
    __device__ explicit Rows(const FewTokens& p) {
      if constexpr (kWay != Way::mapped || S::kAtOnce) return;
      const unsigned row = lane() / 4;
      const unsigned panel = row % p.rows_apart;
      first = (panel * p.panel_rows + row / p.rows_apart) * S::kStride;
      apart = 8 / p.rows_apart * S::kStride;
      lead = panel * p.row_bytes;
    }
  };

  std::uint32_t stages_;
  [[maybe_unused]] std::uint32_t barriers_ = 0;
  [[maybe_unused]] Rows rows_;
};

}  // namespace
}  // namespace tensor_pager::kernels::cuda
