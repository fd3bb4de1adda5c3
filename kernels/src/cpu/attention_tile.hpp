// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>

#include "cpu/exponential.hpp"
#include "cpu/kernel_table.hpp"

// Included after a lanes_*.hpp, which defines Vec; see kernels.hpp.

namespace tensor_pager::kernels::cpu {
namespace {

inline constexpr std::size_t kPanelWidth = kOuterVectors * kLanes;
static_assert(kKeyBlock % kPanelWidth == 0);

constexpr std::size_t round_up(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

inline float sum_of(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  for (std::size_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::size_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

inline float max_of(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  float result = lanes[0];
  for (std::size_t i = 1; i < kLanes; ++i) result = lanes[i] > result ? lanes[i] : result;
  return result;
}

// A panel is kPanelWidth columns.
struct Panel {
  const float* values;
  std::size_t stride;  // from one row to the next
  std::size_t depth;   // rows
};

// c [kQueries, kPanelWidth] = keep[q] * c + a [kQueries, depth] * panel; c is not read if it is not
// kept. Every element is one chain of fused multiply-adds in order of depth, whatever its
// neighbours are.
template <bool kKeep, std::size_t kQueries>
void outer_tile(const float* a, std::size_t a_stride, const Panel& panel, float* c,
                std::size_t c_stride, const float* keep) {
  Vec sums[kQueries][kOuterVectors];
#pragma GCC unroll 8
  for (std::size_t q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kOuterVectors; ++v) {
      sums[q][v] =
          kKeep ? mul(broadcast(keep[q]), load(c + q * c_stride + v * kLanes)) : broadcast(0.0F);
    }
  }
  for (std::size_t k = 0; k < panel.depth; ++k) {
    Vec columns[kOuterVectors];
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kOuterVectors; ++v) {
      columns[v] = load(panel.values + k * panel.stride + v * kLanes);
    }
#pragma GCC unroll 8
    for (std::size_t q = 0; q < kQueries; ++q) {
      const Vec factor = broadcast(a[q * a_stride + k]);
#pragma GCC unroll 4
      for (std::size_t v = 0; v < kOuterVectors; ++v) {
        sums[q][v] = multiply_add(factor, columns[v], sums[q][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kOuterVectors; ++v) {
      store(c + q * c_stride + v * kLanes, sums[q][v]);
    }
  }
}

// Running softmax of one query: the largest score so far, and the sum of exp(score - largest).
struct RunningSoftmax {
  float largest;
  float sum;
};

// Turns kKeyBlock raw scores, of which the first `allowed` count, into exp(score - largest) and
// updates the running values. Returns the factor that makes what was accumulated before relative to
// the new largest score.
inline float update_softmax(float* scores, std::size_t allowed, float scale,
                            RunningSoftmax& running) {
  if (allowed == 0) {
    std::memset(scores, 0, kKeyBlock * sizeof(float));
    return 1.0F;
  }
  for (std::size_t i = 0; i < kKeyBlock; i += kLanes) {
    store(scores + i, mul(load(scores + i), broadcast(scale)));
  }
  for (std::size_t i = allowed; i < kKeyBlock; ++i) scores[i] = -__builtin_inff();
  Vec largest = broadcast(running.largest);
  for (std::size_t i = 0; i < kKeyBlock; i += kLanes) largest = max(largest, load(scores + i));
  const float new_largest = max_of(largest);
  Vec sum = broadcast(0.0F);
  for (std::size_t i = 0; i < kKeyBlock; i += kLanes) {
    const Vec p = exponential(sub(load(scores + i), broadcast(new_largest)));
    store(scores + i, p);
    sum = add(sum, p);
  }
  float keep[kLanes];
  store(keep, exponential(broadcast(running.largest - new_largest)));
  running.largest = new_largest;
  running.sum = running.sum * keep[0] + sum_of(sum);
  return keep[0];
}

// The parts of an attention tile's scratch memory. Queries are rows: token by token, the group's
// heads within.
struct AttentionScratch {
  std::size_t queries;      // padded to whole groups
  std::size_t value_dim;    // head_dim padded to whole panels
  float* keys;              // panels of [head_dim, kPanelWidth]: transposed
  float* values;            // panels of [kKeyBlock, kPanelWidth]
  float* q;                 // [queries, head_dim]
  float* out;               // [queries, value_dim]
  float* row;               // [kSquare, head_dim]
  RunningSoftmax* softmax;  // [queries]

  explicit AttentionScratch(const AttentionTile& tile)
      : queries(round_up(tile.tokens * tile.group, kQueryGroup)),
        value_dim(round_up(tile.head_dim, kPanelWidth)) {
    float* next = tile.scratch;
    const auto take = [&next](std::size_t floats) {
      float* result = next;
      next += round_up(floats, 16);
      return result;
    };
    keys = take(kKeyBlock * tile.head_dim);
    values = take(kKeyBlock * value_dim);
    q = take(queries * tile.head_dim);
    out = take(queries * value_dim);
    row = take(kSquare * tile.head_dim);
    softmax = reinterpret_cast<RunningSoftmax*>(take(2 * queries));
  }
};

inline void load_queries(const AttentionTile& tile, const AttentionScratch& scratch) {
  const std::size_t dim = tile.head_dim;
  std::memset(scratch.q, 0, scratch.queries * dim * sizeof(float));
  std::memset(scratch.out, 0, scratch.queries * scratch.value_dim * sizeof(float));
  for (std::size_t t = 0; t < tile.tokens; ++t) {
    std::memcpy(scratch.q + t * tile.group * dim, tile.q + t * tile.q_stride,
                tile.group * dim * sizeof(float));
  }
  for (std::size_t i = 0; i < scratch.queries; ++i) {
    scratch.softmax[i] = {-__builtin_inff(), 0.0F};
  }
}

// `elements` of the cache as floats: where they lie if they are that, else in `row`.
inline const float* cached(const AttentionTile& tile, const std::byte* source, float* row) {
  if (tile.load == nullptr) return reinterpret_cast<const float*>(source);
  tile.load(source, row, tile.head_dim);
  return row;
}

// Packs `count` positions of keys from `keys` on; the rest of the block are zeros. Meanwhile
// the next block comes from memory.
inline void load_keys(const AttentionTile& tile, const AttentionScratch& scratch,
                      const std::byte* keys, std::size_t count) {
  const std::size_t dim = tile.head_dim;
  if (count < kKeyBlock) std::memset(scratch.keys, 0, kKeyBlock * dim * sizeof(float));
  std::size_t p = 0;
  for (; p + kSquare <= count; p += kSquare) {
    const float* rows = scratch.row;
    std::size_t stride = dim;
    if (tile.load == nullptr) {
      rows = reinterpret_cast<const float*>(keys + p * tile.position_bytes);
      stride = tile.position_bytes / sizeof(float);
    } else {
      for (std::size_t i = 0; i < kSquare; ++i) {
        tile.load(keys + (p + i) * tile.position_bytes, scratch.row + i * dim, dim);
      }
    }
    float* columns = scratch.keys + p / kPanelWidth * dim * kPanelWidth + p % kPanelWidth;
    for (std::size_t d = 0; d < dim; d += kSquare) {
      transpose_square(rows + d, stride, columns + d * kPanelWidth, kPanelWidth);
    }
  }
  for (; p < count; ++p) {
    const float* row = cached(tile, keys + p * tile.position_bytes, scratch.row);
    float* column = scratch.keys + p / kPanelWidth * dim * kPanelWidth + p % kPanelWidth;
    for (std::size_t d = 0; d < dim; ++d) column[d * kPanelWidth] = row[d];
  }
}

// Packs `count` positions from `values` on; likewise.
inline void load_values(const AttentionTile& tile, const AttentionScratch& scratch,
                        const std::byte* values, std::size_t count) {
  const std::size_t dim = tile.head_dim;
  if (count < kKeyBlock || dim != scratch.value_dim) {
    std::memset(scratch.values, 0, kKeyBlock * scratch.value_dim * sizeof(float));
  }
  for (std::size_t p = 0; p < count; ++p) {
    const float* row = cached(tile, values + p * tile.position_bytes, scratch.row);
    for (std::size_t d = 0; d < dim; d += kPanelWidth) {
      const std::size_t width = dim - d < kPanelWidth ? dim - d : kPanelWidth;
      std::memcpy(scratch.values + d * kKeyBlock + p * kPanelWidth, row + d, width * sizeof(float));
    }
  }
}

// A block of keys and values; panels of its values are value_step apart.
struct KeyBlock {
  std::size_t start;  // position
  const float* values;
  std::size_t value_stride;
  std::size_t value_step;
};

// Values of a few queries stay rows of a position: packing them would cost as much as their
// products.
inline KeyBlock load_block(const AttentionTile& tile, const AttentionScratch& scratch,
                           std::size_t start, std::size_t count) {
  const std::size_t dim = tile.head_dim;
  const std::size_t offset = start * tile.position_bytes;
  const std::byte* values = tile.values + offset;
  load_keys(tile, scratch, tile.keys + offset, count);
  if (count < kKeyBlock || dim != scratch.value_dim || scratch.queries > 2 * kQueryGroup) {
    load_values(tile, scratch, values, count);
    return {start, scratch.values, kPanelWidth, kPanelWidth * kKeyBlock};
  }
  if (tile.load == nullptr) {
    return {start, reinterpret_cast<const float*>(values), tile.position_bytes / sizeof(float),
            kPanelWidth};
  }
  for (std::size_t p = 0; p < kKeyBlock; ++p) {
    tile.load(values + p * tile.position_bytes, scratch.values + p * dim, dim);
  }
  return {start, scratch.values, dim, kPanelWidth};
}

// Positions that query i attends to.
inline std::size_t query_length(const AttentionTile& tile, std::size_t i) {
  return tile.first_length + i / tile.group;
}

template <std::size_t kQueries>
void attend_queries(const AttentionTile& tile, const AttentionScratch& scratch,
                    const KeyBlock& block, std::size_t first_query) {
  if (query_length(tile, first_query + kQueries - 1) <= block.start) return;
  alignas(64) float scores[kQueries * kKeyBlock];
  float keep[kQueries];
  const std::size_t dim = tile.head_dim;
  for (std::size_t key = 0; key < kKeyBlock; key += kPanelWidth) {
    outer_tile<false, kQueries>(scratch.q + first_query * dim, dim,
                                {scratch.keys + key * dim, kPanelWidth, dim}, scores + key,
                                kKeyBlock, nullptr);
  }
  for (std::size_t i = 0; i < kQueries; ++i) {
    const std::size_t length = query_length(tile, first_query + i);
    const std::size_t left = length > block.start ? length - block.start : 0;
    keep[i] = update_softmax(scores + i * kKeyBlock, left < kKeyBlock ? left : kKeyBlock,
                             tile.scale, scratch.softmax[first_query + i]);
  }
  for (std::size_t panel = 0; panel < scratch.value_dim / kPanelWidth; ++panel) {
    outer_tile<true, kQueries>(
        scores, kKeyBlock, {block.values + panel * block.value_step, block.value_stride, kKeyBlock},
        scratch.out + first_query * scratch.value_dim + panel * kPanelWidth, scratch.value_dim,
        keep);
  }
}

template <std::size_t kQueries = kQueryGroup>
void attend_block(const AttentionTile& tile, const AttentionScratch& scratch, const KeyBlock& block,
                  std::size_t first_query, std::size_t queries) {
  if (queries >= kQueries) {
    attend_queries<kQueries>(tile, scratch, block, first_query);
  } else if constexpr (kQueries > 1) {
    attend_block<kQueries - 1>(tile, scratch, block, first_query, queries);
  }
}

inline void store_queries(const AttentionTile& tile, const AttentionScratch& scratch) {
  for (std::size_t i = 0; i < tile.tokens * tile.group; ++i) {
    const float* from = scratch.out + i * scratch.value_dim;
    float* to = tile.out + i / tile.group * tile.out_stride + i % tile.group * tile.head_dim;
    // Adding zero makes -0 a +0: keys that are masked out may turn one into the other on the way.
    for (std::size_t d = 0; d < tile.head_dim; ++d) {
      to[d] = from[d] / scratch.softmax[i].sum + 0.0F;
    }
  }
}

inline void attention_tile(const AttentionTile& tile) {
  const AttentionScratch scratch(tile);
  load_queries(tile, scratch);
  const std::size_t length = tile.first_length + tile.tokens - 1;
  const std::size_t queries = tile.tokens * tile.group;
  for (std::size_t start = 0; start < length; start += kKeyBlock) {
    const KeyBlock block =
        load_block(tile, scratch, start, length - start < kKeyBlock ? length - start : kKeyBlock);
    for (std::size_t i = 0; i < queries; i += kQueryGroup) {
      attend_block(tile, scratch, block, i, queries - i);
    }
  }
  store_queries(tile, scratch);
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
