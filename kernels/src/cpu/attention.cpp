// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention.hpp"

#include <tbb/enumerable_thread_specific.h>

#include <algorithm>
#include <string>

#include "cpu/kernel_table.hpp"
#include "cpu/parallel.hpp"
#include "cpu/shape_check.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

// Queries that share one packing of a block of keys: enough that packing is a small part of the
// work, few enough that their accumulators stay in the second-level cache.
constexpr std::size_t kTileQueries = 192;
constexpr std::size_t kWidestPanel = 64;
constexpr std::size_t kWidestSquare = 8;

std::size_t padded(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// At least what AttentionScratch takes, for every instruction set.
std::size_t attention_scratch_floats(std::size_t head_dim, std::size_t queries) {
  const std::size_t all_queries = padded(queries, kQueryGroup);
  const std::size_t value_dim = padded(head_dim, kWidestPanel);
  return kKeyBlock * (head_dim + value_dim) + all_queries * (head_dim + value_dim + 2) +
         kWidestSquare * head_dim + std::size_t{6} * 16;
}

void require_valid(const AttentionShape& s, const KvCacheView& cache) {
  if (s.kv_heads == 0 || s.heads == 0 || s.heads % s.kv_heads != 0) {
    throw Error("attention: " + std::to_string(s.heads) + " heads do not divide among " +
                std::to_string(s.kv_heads) + " key/value heads");
  }
  if (s.head_dim == 0 || s.head_dim % 8 != 0 || s.head_dim > 256) {
    throw Error("attention: head_dim is " + std::to_string(s.head_dim) +
                ", but must be a multiple of 8 up to 256");
  }
  if (cache.position_stride < s.kv_heads * s.head_dim) {
    throw Error("attention: cache positions are " + std::to_string(cache.position_stride) +
                " elements apart, fewer than kv_heads * head_dim = " +
                std::to_string(s.kv_heads * s.head_dim));
  }
  if (block_elements(cache.type) != 1) {
    throw Error("attention: a key/value cache of type " + std::string(name(cache.type)) +
                " is not supported; use F32, F16 or BF16");
  }
}

double operations(const AttentionShape& s) {
  const double keys = static_cast<double>(s.past) + 0.5 * static_cast<double>(s.tokens);
  return 4.0 * keys * static_cast<double>(s.tokens) * static_cast<double>(s.heads * s.head_dim);
}

}  // namespace

void attention(const AttentionShape& s, const ConstMatrixView& q, const KvCacheView& cache,
               const MatrixView& out, InstructionSet instruction_set) {
  require_valid(s, cache);
  require_shape("attention: q", q, s.tokens, s.heads * s.head_dim);
  require_shape("attention: out", out, s.tokens, s.heads * s.head_dim);
  const KernelTable& table = kernel_table(instruction_set);
  const std::size_t group = s.heads / s.kv_heads;
  const std::size_t tile_tokens =
      std::min(std::max<std::size_t>(1, kTileQueries / group), std::max<std::size_t>(1, s.tokens));
  const std::size_t tiles = (s.tokens + tile_tokens - 1) / tile_tokens;
  const std::size_t element_bytes = block_bytes(cache.type);
  const auto load =
      cache.type == WeightType::f32 ? nullptr : format_kernels(table, cache.type).dequantize;

  tbb::enumerable_thread_specific<AlignedFloats> scratch(
      attention_scratch_floats(s.head_dim, tile_tokens * group));
  parallel_tasks(tiles * s.kv_heads, operations(s), [&](std::size_t task) {
    const std::size_t kv_head = task % s.kv_heads;
    const std::size_t first = (tiles - 1 - task / s.kv_heads) * tile_tokens;  // longest ones first
    const std::size_t column = kv_head * group * s.head_dim;
    table.attention_tile({.load = load,
                          .keys = cache.keys + kv_head * s.head_dim * element_bytes,
                          .values = cache.values + kv_head * s.head_dim * element_bytes,
                          .position_bytes = cache.position_stride * element_bytes,
                          .head_dim = s.head_dim,
                          .group = group,
                          .tokens = std::min(tile_tokens, s.tokens - first),
                          .first_length = s.past + first + 1,
                          .scale = s.scale,
                          .q = q.row(first) + column,
                          .q_stride = q.stride,
                          .out = out.row(first) + column,
                          .out_stride = out.stride,
                          .scratch = scratch.local().data()});
  });
}

}  // namespace tensor_pager::kernels::cpu
