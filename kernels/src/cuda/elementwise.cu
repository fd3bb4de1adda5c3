// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cuda/launch.hpp"
#include "cuda/launch_early.cuh"
#include "cuda/rounding.cuh"
#include "cuda/shapes.hpp"
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/digits.hpp"
#include "kernels/cuda/kv_cache.hpp"
#include "kernels/cuda/rope.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
// Rows beyond the grid's second dimension are reached by a stride loop.
constexpr std::size_t kGridRows = 32768;

struct Swiglu {
  __device__ float operator()(float gate, float up) const {
    return gate / (1.0F + expf(-gate)) * up;
  }
};
struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};

struct Binary {
  const float* a;
  const float* b;
  float* out;
  std::size_t a_stride, b_stride, out_stride;
  std::size_t rows, cols;
};

template <class Function>
__global__ void __launch_bounds__(kThreads) apply(const Binary p) {
  const std::size_t col = std::size_t{blockIdx.x} * kThreads + threadIdx.x;
  if (col >= p.cols) return;
  for (std::size_t r = blockIdx.y; r < p.rows; r += gridDim.y) {
    p.out[r * p.out_stride + col] =
        Function{}(p.a[r * p.a_stride + col], p.b[r * p.b_stride + col]);
  }
}

// The same, four columns per thread.
template <class Function>
__global__ void __launch_bounds__(kThreads) apply_four(const Binary p) {
  const std::size_t col = (std::size_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (col >= p.cols) return;
  for (std::size_t r = blockIdx.y; r < p.rows; r += gridDim.y) {
    const float4 a = *reinterpret_cast<const float4*>(p.a + r * p.a_stride + col);
    const float4 b = *reinterpret_cast<const float4*>(p.b + r * p.b_stride + col);
    const Function f{};
    const float4 out{f(a.x, b.x), f(a.y, b.y), f(a.z, b.z), f(a.w, b.w)};
    *reinterpret_cast<float4*>(p.out + r * p.out_stride + col) = out;
  }
}

unsigned grid_rows(std::size_t rows) {
  return static_cast<unsigned>(rows < kGridRows ? rows : kGridRows);
}

template <class Function>
void run(const char* what, const ConstMatrixView& a, const ConstMatrixView& b,
         const MatrixView& out, cudaStream_t stream) {
  require_shape(what, a, out.rows, out.cols);
  require_shape(what, b, out.rows, out.cols);
  require_shape(what, out, out.rows, out.cols);
  if (out.rows * out.cols == 0) return;
  const Binary p{a.data, b.data, out.data, a.stride, b.stride, out.stride, out.rows, out.cols};
  if (rows_of_float4(a) && rows_of_float4(b) && rows_of_float4(out)) {
    const dim3 grid(blocks_for(out.cols, 4 * kThreads), grid_rows(out.rows));
    apply_four<Function><<<grid, kThreads, 0, stream>>>(p);
  } else {
    const dim3 grid(blocks_for(out.cols, kThreads), grid_rows(out.rows));
    apply<Function><<<grid, kThreads, 0, stream>>>(p);
  }
  check_launch(what, {out.rows, out.cols});
}

struct Rotation {
  float* x;
  std::size_t stride;
  std::size_t tokens;
  unsigned heads, head_dim, pairs;
  const float* table;  // of the first token's position
};

// A thread for each pair of a token; a warp's threads rotate neighbouring ones.
__global__ void __launch_bounds__(kThreads) rotate(const Rotation p) {
  begin_after_others();
  for (std::size_t t = blockIdx.y; t < p.tokens; t += gridDim.y) {
    const float* cosines = p.table + t * 2 * p.pairs;
    float* row = p.x + t * p.stride;
    const unsigned i = blockIdx.x * kThreads + threadIdx.x;
    if (i < p.heads * p.pairs) {
      const unsigned head = i / p.pairs;
      const unsigned pair = i - head * p.pairs;
      float* at = row + head * p.head_dim + pair;
      const float a = at[0];
      const float b = at[p.pairs];
      const float cosine = cosines[pair];
      const float sine = cosines[p.pairs + pair];
      // Not fused, as on the CPU.
      at[0] = __fsub_rn(__fmul_rn(a, cosine), __fmul_rn(b, sine));
      at[p.pairs] = __fadd_rn(__fmul_rn(a, sine), __fmul_rn(b, cosine));
    }
  }
}

constexpr unsigned kMostThreads = 1024;
// Eights of columns that a thread keeps in registers.
constexpr unsigned kHeld = 4;
constexpr std::size_t kMostRotatedCols = std::size_t{8} * kHeld * kMostThreads;

struct RotationToHalf {
  const float* x;
  std::size_t stride;
  __half* out;
  std::size_t out_stride;
  unsigned eights;    // of columns in a row
  unsigned per_head;  // of them
  unsigned pairs;     // a multiple of 4
  const float* table;
};

// Two fours of columns of a row: four rotated pairs, or eight columns that are not rotated.
struct TwoFours {
  unsigned a, b;  // where they begin
  unsigned pair;  // the first, beyond the last if they are not rotated
};

__device__ TwoFours two_fours(const RotationToHalf& p, unsigned i) {
  const unsigned head = i / p.per_head;
  const unsigned within = i - head * p.per_head;
  const unsigned begin = head * p.per_head * 8;
  if (4 * within < p.pairs) return {begin + 4 * within, begin + 4 * within + p.pairs, 4 * within};
  const unsigned a = begin + 2 * p.pairs + 8 * (within - p.pairs / 4);
  return {a, a + 4, p.pairs};
}

__device__ void load_four(const float* from, float (&v)[4]) {
  const float4 four = *reinterpret_cast<const float4*>(from);
  v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
}

// A block's token: its row is read as a whole before it is written, which may be where it was.
__device__ void rotate_row_to_half(const RotationToHalf& p) {
  const float* row = p.x + blockIdx.x * p.stride;
  const float* cosines = p.table + std::size_t{blockIdx.x} * 2 * p.pairs;
  float a[kHeld][4];
  float b[kHeld][4];
#pragma unroll
  for (unsigned k = 0; k < kHeld; ++k) {
    const unsigned i = threadIdx.x + k * blockDim.x;
    if (i >= p.eights) continue;
    const TwoFours at = two_fours(p, i);
    load_four(row + at.a, a[k]);
    load_four(row + at.b, b[k]);
    if (at.pair == p.pairs) continue;
    float cosine[4];
    float sine[4];
    load_four(cosines + at.pair, cosine);
    load_four(cosines + p.pairs + at.pair, sine);
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) {
      const float x = a[k][e];
      const float y = b[k][e];
      a[k][e] = __fsub_rn(__fmul_rn(x, cosine[e]), __fmul_rn(y, sine[e]));
      b[k][e] = __fadd_rn(__fmul_rn(x, sine[e]), __fmul_rn(y, cosine[e]));
    }
  }
  __syncthreads();
  __half* out = p.out + blockIdx.x * p.out_stride;
#pragma unroll
  for (unsigned k = 0; k < kHeld; ++k) {
    const unsigned i = threadIdx.x + k * blockDim.x;
    if (i >= p.eights) continue;
    const TwoFours at = two_fours(p, i);
    store_four(out + at.a, a[k]);
    store_four(out + at.b, b[k]);
  }
}

__global__ void __launch_bounds__(kMostThreads) rotate_to_half(const RotationToHalf p) {
  begin_after_others();
  rotate_row_to_half(p);
}

struct Rounding {
  const float* x;
  std::size_t x_stride;
  __half* out;
  std::size_t stride;
  std::size_t rows, cols;
};

__global__ void __launch_bounds__(kThreads) round_to_half(const Rounding p) {
  begin_after_others();
  const std::size_t col = std::size_t{blockIdx.x} * kThreads + threadIdx.x;
  if (col >= p.cols) return;
  for (std::size_t r = blockIdx.y; r < p.rows; r += gridDim.y) {
    p.out[r * p.stride + col] = __float2half_rn(p.x[r * p.x_stride + col]);
  }
}

// The same, four columns per thread.
__global__ void __launch_bounds__(kThreads) round_to_half_four(const Rounding p) {
  begin_after_others();
  const std::size_t col = (std::size_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (col >= p.cols) return;
  for (std::size_t r = blockIdx.y; r < p.rows; r += gridDim.y) {
    float v[4];
    load_four(p.x + r * p.x_stride + col, v);
    store_four(p.out + r * p.stride + col, v);
  }
}

// Keys, and values that are rounded only: as many of one as of the other.
struct KeysAndValues {
  RotationToHalf keys;
  Rounding values;
};

// Two blocks per token.
__global__ void __launch_bounds__(kMostThreads) store_rows(const KeysAndValues p) {
  begin_after_others();
  if (blockIdx.y == 0) return rotate_row_to_half(p.keys);
  const float* row = p.values.x + blockIdx.x * p.values.x_stride;
  __half* out = p.values.out + blockIdx.x * p.values.stride;
  for (unsigned col = 4 * threadIdx.x; col < p.values.cols; col += 4 * blockDim.x) {
    float v[4];
    load_four(row + col, v);
    store_four(out + col, v);
  }
}

// What a few tokens leave before attention: queries, keys and values, each in pairs of columns.
struct FewHeads {
  float* queries;
  const float* keys;
  const float* values;
  std::size_t query_stride, key_stride, value_stride;
  unsigned heads, kv_heads, head_dim, pairs;
  const float* table;  // of the first token's position
  CacheRow rows[kMostFewTokens];
};

struct RotatedPair {
  float first, second;
};

// Not fused, as on the CPU.
__device__ RotatedPair rotated(float a, float b, const float* cosines, unsigned pair,
                               unsigned pairs) {
  const float cosine = cosines[pair];
  const float sine = cosines[pairs + pair];
  return {__fsub_rn(__fmul_rn(a, cosine), __fmul_rn(b, sine)),
          __fadd_rn(__fmul_rn(a, sine), __fmul_rn(b, cosine))};
}

// A thread for each pair of a token.
__global__ void __launch_bounds__(kThreads) rotate_and_store_few(const FewHeads p) {
  begin_after_others();
  const unsigned t = blockIdx.y;
  const float* cosines = p.table + std::size_t{t} * 2 * p.pairs;
  const unsigned half = p.head_dim / 2;
  unsigned i = blockIdx.x * kThreads + threadIdx.x;
  if (i < p.heads * p.pairs) {
    const unsigned pair = i % p.pairs;
    float* at = p.queries + t * p.query_stride + i / p.pairs * p.head_dim + pair;
    const RotatedPair v = rotated(at[0], at[p.pairs], cosines, pair, p.pairs);
    at[0] = v.first;
    at[p.pairs] = v.second;
    return;
  }
  i -= p.heads * p.pairs;
  if (i < p.kv_heads * half) {
    const unsigned pair = i % half;
    const unsigned head = i / half * p.head_dim;
    const bool is_rotated = pair < p.pairs;
    const unsigned a = head + (is_rotated ? pair : 2 * pair);
    const unsigned b = is_rotated ? a + p.pairs : a + 1;
    const float* from = p.keys + t * p.key_stride;
    RotatedPair v{from[a], from[b]};
    if (is_rotated) v = rotated(v.first, v.second, cosines, pair, p.pairs);
    p.rows[t].keys[a] = __float2half_rn(v.first);
    p.rows[t].keys[b] = __float2half_rn(v.second);
    return;
  }
  i -= p.kv_heads * half;
  if (i >= p.kv_heads * half) return;
  const float* from = p.values + t * p.value_stride + 2 * i;
  p.rows[t].values[2 * i] = __float2half_rn(from[0]);
  p.rows[t].values[2 * i + 1] = __float2half_rn(from[1]);
}

void require_rotatable(const ConstMatrixView& x, std::size_t heads, std::size_t first_position,
                       const RopeTableView& table) {
  require_shape("cuda rope: x", x, x.rows, x.cols);
  if (heads == 0 || x.cols % heads != 0 || x.cols / heads < 2 * table.pairs) {
    throw Error("cuda rope: rows of " + std::to_string(x.cols) + " do not hold " +
                std::to_string(heads) + " heads of at least " + std::to_string(2 * table.pairs) +
                " rotated dimensions");
  }
  const std::size_t end = table.first_position + table.positions;
  if (first_position < table.first_position || first_position + x.rows > end) {
    throw Error("cuda rope: positions " + std::to_string(first_position) + " to " +
                std::to_string(first_position + x.rows) + " are outside the table's, " +
                std::to_string(table.first_position) + " to " + std::to_string(end));
  }
}

// Checked.
RotationToHalf rotation_to_half(const ConstMatrixView& x, std::size_t heads,
                                std::size_t first_position, const RopeTableView& table,
                                const HalfMatrixView& out) {
  require_rotatable(x, heads, first_position, table);
  const std::size_t head_dim = x.cols / heads;
  const bool in_fours = head_dim % 8 == 0 && table.pairs % 4 == 0 && rows_of_float4(x) &&
                        out.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(out.data) % 8 == 0;
  if (!in_fours || x.cols > kMostRotatedCols || out.rows != x.rows || out.cols != x.cols) {
    throw Error("cuda rope_to_half: " + std::to_string(heads) + " heads of " +
                std::to_string(head_dim) + " with " + std::to_string(table.pairs) +
                " pairs to rows of " + std::to_string(out.cols) +
                "; heads must be a multiple of 8, pairs of 4, rows aligned to four elements, of at "
                "most " +
                std::to_string(kMostRotatedCols) + " columns, and as many");
  }
  return {x.data,
          x.stride,
          out.data,
          out.stride,
          static_cast<unsigned>(x.cols / 8),
          static_cast<unsigned>(head_dim / 8),
          static_cast<unsigned>(table.pairs),
          table.values + (first_position - table.first_position) * 2 * table.pairs};
}

// Two eights per thread where there are threads enough.
unsigned threads_of(const RotationToHalf& p) {
  return 32 * std::clamp(blocks_for(p.eights, 64), 1U, kMostThreads / 32);
}

}  // namespace

void swiglu(const ConstMatrixView& gate, const ConstMatrixView& up, const MatrixView& out,
            cudaStream_t stream) {
  run<Swiglu>("cuda swiglu", gate, up, out, stream);
}

void add(const ConstMatrixView& a, const ConstMatrixView& b, const MatrixView& out,
         cudaStream_t stream) {
  run<Add>("cuda add", a, b, out, stream);
}

void rope(const MatrixView& x, std::size_t heads, std::size_t first_position,
          const RopeTableView& table, cudaStream_t stream) {
  require_rotatable(x, heads, first_position, table);
  if (x.rows == 0 || table.pairs == 0) return;
  const Rotation p{x.data,
                   x.stride,
                   x.rows,
                   static_cast<unsigned>(heads),
                   static_cast<unsigned>(x.cols / heads),
                   static_cast<unsigned>(table.pairs),
                   table.values + (first_position - table.first_position) * 2 * table.pairs};
  const dim3 grid(blocks_for(heads * table.pairs, kThreads), grid_rows(x.rows));
  launch_early(rotate, {grid, kThreads, 0, stream}, p);
  check_launch("rope", {x.rows, x.cols, heads});
}

void rope_to_half(const ConstMatrixView& x, std::size_t heads, std::size_t first_position,
                  const RopeTableView& table, const HalfMatrixView& out, cudaStream_t stream) {
  const RotationToHalf p = rotation_to_half(x, heads, first_position, table, out);
  if (x.rows == 0) return;
  launch_early(rotate_to_half, {static_cast<unsigned>(x.rows), threads_of(p), 0, stream}, p);
  check_launch("rope_to_half", {x.rows, x.cols, heads});
}

void store_keys_and_values(const ConstMatrixView& keys, const ConstMatrixView& values,
                           std::size_t heads, std::size_t first_position,
                           const RopeTableView& table, const HalfMatrixView& cached_keys,
                           const HalfMatrixView& cached_values, cudaStream_t stream) {
  const RotationToHalf rotation = rotation_to_half(keys, heads, first_position, table, cached_keys);
  require_shape("cuda store_keys_and_values: values", values, keys.rows, keys.cols);
  const bool in_fours = rows_of_float4(values) && cached_values.stride % 4 == 0 &&
                        reinterpret_cast<std::uintptr_t>(cached_values.data) % 8 == 0;
  if (!in_fours || cached_values.rows != keys.rows || cached_values.cols != keys.cols) {
    throw Error("cuda store_keys_and_values: rows of " + std::to_string(values.cols) +
                " values must be aligned to four elements, and as many in the cache");
  }
  if (keys.rows == 0) return;
  const KeysAndValues p{rotation,
                        {values.data, values.stride, cached_values.data, cached_values.stride,
                         values.rows, values.cols}};
  const dim3 grid(static_cast<unsigned>(keys.rows), 2);
  launch_early(store_rows, {grid, threads_of(rotation), 0, stream}, p);
  check_launch("store_keys_and_values", {keys.rows, keys.cols, heads});
}

void rotate_and_store(const MatrixView& queries, std::size_t heads, const ConstMatrixView& keys,
                      const ConstMatrixView& values, std::size_t kv_heads,
                      std::size_t first_position, const RopeTableView& table,
                      std::span<const CacheRow> rows, cudaStream_t stream) {
  require_rotatable(queries, heads, first_position, table);
  require_rotatable(keys, kv_heads, first_position, table);
  const std::size_t head_dim = queries.cols / heads;
  require_shape("cuda rotate_and_store: keys", keys, queries.rows, kv_heads * head_dim);
  require_shape("cuda rotate_and_store: values", values, queries.rows, kv_heads * head_dim);
  if (rows.size() != queries.rows || rows.size() > kMostFewTokens || head_dim % 2 != 0) {
    throw Error("cuda rotate_and_store: " + std::to_string(queries.rows) + " tokens with " +
                std::to_string(rows.size()) + " places in the cache, heads of " +
                std::to_string(head_dim) + "; there must be as many, at most " +
                std::to_string(kMostFewTokens) + ", and heads of pairs");
  }
  if (rows.empty()) return;
  FewHeads p{queries.data,
             keys.data,
             values.data,
             queries.stride,
             keys.stride,
             values.stride,
             static_cast<unsigned>(heads),
             static_cast<unsigned>(kv_heads),
             static_cast<unsigned>(head_dim),
             static_cast<unsigned>(table.pairs),
             table.values + (first_position - table.first_position) * 2 * table.pairs,
             {}};
  std::ranges::copy(rows, p.rows);
  const dim3 grid(blocks_for(heads * table.pairs + kv_heads * head_dim, kThreads),
                  static_cast<unsigned>(rows.size()));
  launch_early(rotate_and_store_few, {grid, kThreads, 0, stream}, p);
  check_launch("rotate_and_store", {queries.rows, heads, kv_heads, head_dim});
}

void store_as_half(const ConstMatrixView& x, __half* out, std::size_t stride, cudaStream_t stream) {
  require_shape("cuda store_as_half: x", x, x.rows, x.cols);
  if (stride < x.cols) {
    throw Error("cuda store_as_half: rows of " + std::to_string(x.cols) + " do not fit a stride " +
                std::to_string(stride));
  }
  if (x.rows * x.cols == 0) return;
  const Rounding p{x.data, x.stride, out, stride, x.rows, x.cols};
  if (rows_of_float4(x) && stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(out) % 8 == 0) {
    const dim3 grid(blocks_for(x.cols, 4 * kThreads), grid_rows(x.rows));
    launch_early(round_to_half_four, {grid, kThreads, 0, stream}, p);
  } else {
    const dim3 grid(blocks_for(x.cols, kThreads), grid_rows(x.rows));
    launch_early(round_to_half, {grid, kThreads, 0, stream}, p);
  }
  check_launch("store_as_half", {x.rows, x.cols});
}

}  // namespace tensor_pager::kernels::cuda
