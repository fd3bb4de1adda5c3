// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/attention.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numbers>
#include <string>

#include "cuda/attention_kernels.hpp"
#include "cuda/launch.hpp"
#include "cuda/operand_rows.hpp"
#include "cuda/shapes.hpp"
#include "kernels/cuda/kv_cache.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

bool aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

std::size_t partial_bytes(const AttentionShape& s) {
  if (s.tokens != 1) return 0;
  // Of all sequences up to this length: a longer one may have fewer ranges.
  const std::size_t splits =
      std::min<std::size_t>(blocks_for(s.past + 1, kLeastSplitKeys), most_splits(s.kv_heads));
  return (s.heads * splits * partial_floats(s.head_dim) * sizeof(float) + 255) / 256 * 256;
}

// Keys of all positions so far, or values, as halves.
std::size_t converted_elements(const AttentionShape& s) {
  return (s.past + s.tokens) * s.kv_heads * s.head_dim;
}

void require_valid(const AttentionShape& s, const KvCacheView& cache) {
  if (s.kv_heads == 0 || s.heads == 0 || s.heads % s.kv_heads != 0) {
    throw Error("cuda attention: " + std::to_string(s.heads) + " heads do not divide among " +
                std::to_string(s.kv_heads) + " key/value heads");
  }
  if (s.head_dim != 64 && s.head_dim != 128 && s.head_dim != 256) {
    throw Error("cuda attention: there is no kernel for head_dim " + std::to_string(s.head_dim) +
                "; it must be 64, 128 or 256");
  }
  if (s.past + s.tokens > static_cast<std::size_t>(std::numeric_limits<int>::max() / 2)) {
    throw Error("cuda attention: " + std::to_string(s.past + s.tokens) +
                " positions are more than 2^30");
  }
  if (cache.position_stride < s.kv_heads * s.head_dim) {
    throw Error("cuda attention: cache positions are " + std::to_string(cache.position_stride) +
                " elements apart, fewer than kv_heads * head_dim = " +
                std::to_string(s.kv_heads * s.head_dim));
  }
  if (cache.type != WeightType::f16 && cache.type != WeightType::f32) {
    throw Error("cuda attention: a key/value cache of type " + std::string(name(cache.type)) +
                " is not supported; use F16 or F32");
  }
  if (cache.type == WeightType::f16 &&
      (!aligned(cache.keys) || !aligned(cache.values) || cache.position_stride % 8 != 0)) {
    throw Error("cuda attention: keys and values must begin at multiples of 16 bytes, and " +
                std::to_string(cache.position_stride) + ", their stride, be a multiple of 8");
  }
}

// The problem's cache as halves: as it is, or converted to `scratch`.
template <class Problem>
void set_cache(Problem& p, const AttentionShape& s, const KvCacheView& cache, std::byte* scratch,
               cudaStream_t stream) {
  p.position_stride = cache.position_stride;
  p.keys = reinterpret_cast<const __half*>(cache.keys);
  p.values = reinterpret_cast<const __half*>(cache.values);
  if (cache.type == WeightType::f16) return;
  const std::size_t rows = s.past + s.tokens;
  const std::size_t width = s.kv_heads * s.head_dim;
  auto* keys = reinterpret_cast<__half*>(scratch);
  __half* values = keys + converted_elements(s);
  const auto convert = [&](const std::byte* from, __half* to) {
    store_as_half({reinterpret_cast<const float*>(from), rows, width, cache.position_stride}, to,
                  width, stream);
  };
  convert(cache.keys, keys);
  convert(cache.values, values);
  p.position_stride = width;
  p.keys = keys;
  p.values = values;
}

void require_queries(const AttentionShape& s, const ConstMatrixView& q) {
  require_shape("cuda attention: q", q, s.tokens, s.heads * s.head_dim);
  if (!aligned(q.data) || q.stride % 4 != 0) {
    throw Error("cuda attention: rows of q must begin at multiples of 16 bytes");
  }
}

// A matrix of halves that the copy engine can read.
void require_halves(const char* what, const ConstHalfMatrixView& m, const AttentionShape& s) {
  const std::size_t width = s.heads * s.head_dim;
  if (m.rows != s.tokens || m.cols != width || m.stride < width) {
    throw Error(std::string("cuda attention: ") + what + " is [" + std::to_string(m.rows) + ", " +
                std::to_string(m.cols) + "] with stride " + std::to_string(m.stride) +
                ", but must be [" + std::to_string(s.tokens) + ", " + std::to_string(width) + "]");
  }
  if (!aligned(m.data) || m.stride % 8 != 0) {
    throw Error(std::string("cuda attention: rows of ") + what +
                " must begin at multiples of 16 bytes");
  }
}

template <class Query, class Out, class QueryView>
AttentionProblem<Query, Out> problem(const AttentionShape& s, const QueryView& q,
                                     const KvCacheView& cache, Out* out, std::size_t out_stride,
                                     const Scratch& scratch, cudaStream_t stream) {
  const std::size_t needed = attention_scratch_bytes(s, cache.type);
  if (scratch.bytes < needed || (needed > 0 && !aligned(scratch.data))) {
    throw Error("cuda attention: " + std::to_string(s.tokens) + " tokens after " +
                std::to_string(s.past) + " need " + std::to_string(needed) +
                " bytes of scratch memory at a multiple of 16, but have " +
                std::to_string(scratch.bytes));
  }
  AttentionProblem<Query, Out> p{};
  p.q = q.data;
  p.q_stride = q.stride;
  p.out = out;
  p.out_stride = out_stride;
  p.tokens = static_cast<int>(s.tokens);
  p.heads = static_cast<int>(s.heads);
  p.kv_heads = static_cast<int>(s.kv_heads);
  p.past = static_cast<int>(s.past);
  p.scale = s.scale * std::numbers::log2e_v<float>;
  set_cache(p, s, cache, scratch.data + partial_bytes(s), stream);
  return p;
}

}  // namespace

std::size_t attention_scratch_bytes(const AttentionShape& shape, WeightType cache_type) {
  const std::size_t halves = cache_type == WeightType::f32 ? 2 * converted_elements(shape) : 0;
  return partial_bytes(shape) + halves * sizeof(__half);
}

void attention(const AttentionShape& s, const ConstMatrixView& q, const KvCacheView& cache,
               const MatrixView& out, const Scratch& scratch, cudaStream_t stream) {
  require_valid(s, cache);
  require_queries(s, q);
  require_shape("cuda attention: out", out, s.tokens, s.heads * s.head_dim);
  if (out.stride % 2 != 0 || !aligned(out.data)) {
    throw Error("cuda attention: rows of out must begin at multiples of 8 bytes");
  }
  if (s.tokens == 0) return;
  const auto p = problem<float>(s, q, cache, out.data, out.stride, scratch, stream);
  if (s.tokens == 1) {
    launch_attention_splits(p, s.head_dim, reinterpret_cast<float*>(scratch.data), stream);
  } else {
    launch_attention_tiles(p, s.head_dim, stream);
  }
  check_launch("attention", {s.tokens, s.heads, s.kv_heads, s.head_dim, s.past});
}

void attention(const AttentionShape& s, const ConstMatrixView& q, const KvCacheView& cache,
               const DigitsView& out, const Scratch& scratch, cudaStream_t stream) {
  require_valid(s, cache);
  require_queries(s, q);
  if (s.tokens != 1 || out.rows != 1 || out.cols != s.heads * s.head_dim) {
    throw Error("cuda attention: results as digits are of one token, of " +
                std::to_string(s.heads * s.head_dim) + " columns; asked for " +
                std::to_string(out.rows) + " of " + std::to_string(out.cols) + ", of " +
                std::to_string(s.tokens) + " tokens");
  }
  const auto p = problem<float, float>(s, q, cache, nullptr, 0, scratch, stream);
  launch_attention_splits_to_digits(p, s.head_dim, reinterpret_cast<float*>(scratch.data), out.data,
                                    stream);
  check_launch("attention", {s.tokens, s.heads, s.kv_heads, s.head_dim, s.past});
}

void attention(const AttentionShape& s, const ConstHalfMatrixView& q, const KvCacheView& cache,
               const HalfMatrixView& out, const Scratch& scratch, cudaStream_t stream) {
  require_valid(s, cache);
  require_halves("q", q, s);
  require_halves("out", out, s);
  if (s.tokens == 0) return;
  const auto p = problem<__half>(s, q, cache, out.data, out.stride, scratch, stream);
  if (s.tokens == 1) {
    launch_attention_splits(p, s.head_dim, reinterpret_cast<float*>(scratch.data), stream);
  } else if (!launch_attention_hopper(p, s.head_dim, stream)) {
    launch_attention_tiles(p, s.head_dim, stream);
  }
  check_launch("attention", {s.tokens, s.heads, s.kv_heads, s.head_dim, s.past});
}

}  // namespace tensor_pager::kernels::cuda
