// SPDX-License-Identifier: Apache-2.0
#include "cuda/attention_kernels.hpp"
#include "cuda/digits.cuh"
#include "cuda/launch.hpp"
#include "cuda/launch_early.cuh"
#include "cuda/rounding.cuh"
#include "cuda/tensor_core.cuh"

// Attention of a single token: it reads every key and value once, so what counts is that enough of
// them are on their way at the same time. Each block takes a range of keys and the query heads that
// share a key/value head, a warp of it some keys at a time; a second kernel joins the ranges.
// Weights are relative to the largest score that a warp has seen so far ("online softmax": Milakov
// and Gimelshein, 2018), which is joined like the sums.
//
// The tensor cores multiply halves, of which one is what keys and values are. A query, and a
// weight, is the sum of two of them: rows 0 to 7 of a tile are the larger parts of eight heads,
// rows 8 to 15 the smaller ones, so that both come out in the same thread.

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kWarps = kThreads / 32;
constexpr unsigned kHeads = 8;  // of queries that a block works on, at most
constexpr unsigned kEight = 8;  // what a tile has of keys or dimensions
constexpr unsigned kKeys = 16;  // of a warp at a time
constexpr unsigned kAll = 0xFFFFFFFFU;
template <unsigned kHeadDim>
constexpr std::size_t kPartial = partial_floats(kHeadDim);
static_assert(kKeys * kWarps == kLeastSplitKeys);
// Weights are from 0 to a power of two: small ones keep their digits as halves.
constexpr float kLift = 12.0F;

template <class Value>
struct Split {
  AttentionProblem<Value, Value> p;
  float* partials;
  unsigned splits;
  unsigned keys;          // of a split
  unsigned group_blocks;  // blocks for the query heads of one key/value head
};

// The query heads of a block.
struct Heads {
  unsigned kv;
  unsigned first;
  unsigned count;
};

template <class Value>
__device__ Heads heads_of(const Split<Value>& s) {
  const auto group = static_cast<unsigned>(s.p.heads / s.p.kv_heads);
  const unsigned kv = blockIdx.y / s.group_blocks;
  const unsigned first = blockIdx.y % s.group_blocks * kHeads;
  return {kv, kv * group + first, min(kHeads, group - first)};
}

__device__ inline void load_eight(const float* from, float (&v)[kEight]) {
#pragma unroll
  for (unsigned i = 0; i < 2; ++i) {
    const float4 four = reinterpret_cast<const float4*>(from)[i];
    v[4 * i] = four.x, v[4 * i + 1] = four.y, v[4 * i + 2] = four.z, v[4 * i + 3] = four.w;
  }
}

template <class Out>
__device__ void store_eight(Out* out, const float (&v)[kEight]) {
  store_four(out, {v[0], v[1], v[2], v[3]});
  store_four(out + 4, {v[4], v[5], v[6], v[7]});
}

// A warp's next keys and values, which come while it works on those before. Rows are as far apart
// as lets eight of them be read together.
template <unsigned kHeadDim>
struct Stage {
  static constexpr unsigned kStride = kHeadDim + 8;
  __half keys[kKeys][kStride];
  __half values[kKeys][kStride];
};
// Fewer where more would not fit the shared memory of all GPUs.
template <unsigned kHeadDim>
constexpr unsigned kStages = kHeadDim > 128 ? 1 : 2;

// Asks for what is in the cache from key `first` on, by all threads of a warp. In place of keys
// past the end, the last one comes again. A group of copies, be there any or not.
template <unsigned kHeadDim, class Value>
__device__ void ask(const Split<Value>& s, unsigned kv_head, unsigned first, unsigned end,
                    Stage<kHeadDim>& stage) {
  constexpr unsigned kPieces = kHeadDim / kEight;  // of a key
  for (unsigned i = threadIdx.x % 32; first < end && i < kKeys * kPieces; i += 32) {
    const unsigned row = i / kPieces;
    const unsigned dim = i % kPieces * kEight;
    const std::size_t from =
        min(first + row, end - 1) * s.p.position_stride + kv_head * kHeadDim + dim;
    copy_async(shared_address(&stage.keys[row][dim]), s.p.keys + from, true);
    copy_async(shared_address(&stage.values[row][dim]), s.p.values + from, true);
  }
  commit_copies();
}

// Until all but the last group of copies have come, or all, for all threads of the warp.
template <unsigned kLeft>
__device__ void wait_for_stage() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
  __syncwarp();
}

// Two numbers as halves, and what that leaves of them as halves again.
__device__ inline void split_halves(float a, float b, std::uint32_t& large, std::uint32_t& small) {
  union {
    std::uint32_t word;
    __half2 halves;
  } rounded;
  rounded.word = large = pack_halves(a, b);
  const float2 back = __half22float2(rounded.halves);
  small = pack_halves(a - back.x, b - back.y);
}

// The queries of head lane / 4, as left operands of sixteen dimensions each.
template <unsigned kHeadDim>
using Queries = std::uint32_t[kHeadDim / 16][4];

template <unsigned kHeadDim, class Value>
__device__ void load_queries(const Split<Value>& s, const Heads& heads,
                             Queries<kHeadDim>& queries) {
  const unsigned head = threadIdx.x % 32 / 4;
  const Value* q = s.p.q + std::size_t{heads.first + head} * kHeadDim + threadIdx.x % 4 * 2;
#pragma unroll
  for (unsigned i = 0; i < kHeadDim / 16; ++i) {
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      const Value* at = q + 16 * i + 8 * half;
      const bool used = head < heads.count;
      split_halves(used ? to_float(at[0]) : 0.0F, used ? to_float(at[1]) : 0.0F,
                   queries[i][2 * half], queries[i][2 * half + 1]);
    }
  }
}

// Scores of sixteen keys for head lane / 4, of which a thread has keys 2 * (lane % 4) and the next,
// and those eight further on; scaled, and -inf past the end.
template <unsigned kHeadDim, class Value>
__device__ void score_keys(const Split<Value>& s, const Stage<kHeadDim>& stage, unsigned first,
                           unsigned end, const Queries<kHeadDim>& queries, float (&scores)[4]) {
  const unsigned lane = threadIdx.x % 32;
  float c[2][4] = {};
#pragma unroll
  for (unsigned i = 0; i < kHeadDim / 16; ++i) {
    // Keys 0 to 7 and 8 to 15, eight dimensions and the next of each.
    std::uint32_t k[4];
    load_tiles(k, shared_address(&stage.keys[lane % 8 + lane / 16 * 8][16 * i + lane / 8 % 2 * 8]));
    multiply_tiles(c[0], queries[i], k[0], k[1]);
    multiply_tiles(c[1], queries[i], k[2], k[3]);
  }
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned key = first + i / 2 * 8 + lane % 4 * 2 + i % 2;
    scores[i] = key < end ? (c[i / 2][i % 2] + c[i / 2][i % 2 + 2]) * s.p.scale : -INFINITY;
  }
}

// The largest score that a warp has seen of head lane / 4, and a thread's share of the sum of its
// weights.
struct Running {
  float largest = -INFINITY;
  float sum = 0.0F;
};

// Turns scores into weights. Returns by how much what was summed up before shrinks.
__device__ inline float soften(float (&scores)[4], Running& running) {
  float largest = fmaxf(fmaxf(scores[0], scores[1]), fmaxf(scores[2], scores[3]));
  largest = fmaxf(largest, __shfl_xor_sync(kAll, largest, 1));
  largest = fmaxf(largest, __shfl_xor_sync(kAll, largest, 2));
  largest = fmaxf(largest, running.largest);
  const float factor = exp2f(running.largest - largest);
  running.largest = largest;
  running.sum *= factor;
#pragma unroll
  for (float& score : scores) {
    score = exp2f(score - largest + kLift);
    running.sum += score;
  }
  return factor;
}

// Sums of weighted values of head lane / 4: of eight dimensions each, a thread has 2 * (lane % 4)
// and the next, for the larger parts of weights and for the smaller ones.
template <unsigned kHeadDim>
using Sums = float[kHeadDim / kEight][4];

template <unsigned kHeadDim>
__device__ void add_values(const Stage<kHeadDim>& stage, const float (&weights)[4], float factor,
                           Sums<kHeadDim>& sums) {
  const unsigned lane = threadIdx.x % 32;
  std::uint32_t w[4];
  split_halves(weights[0], weights[1], w[0], w[1]);
  split_halves(weights[2], weights[3], w[2], w[3]);
#pragma unroll
  for (unsigned i = 0; i < kHeadDim / 16; ++i) {
    // Dimensions 0 to 7 and 8 to 15, eight keys and the next of each.
    std::uint32_t v[4];
    load_tiles_transposed(v, shared_address(&stage.values[lane % 16][16 * i + lane / 16 * 8]));
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      float(&c)[4] = sums[2 * i + half];
#pragma unroll
      for (float& sum : c) sum *= factor;
      multiply_tiles(c, w, v[2 * half], v[2 * half + 1]);
    }
  }
}

// What a block's warps leave for each other.
template <unsigned kHeadDim>
struct Shares {
  float values[kWarps][kHeads][kHeadDim];
  Running running[kWarps][kHeads];
};

template <unsigned kHeadDim>
__device__ void leave(const Sums<kHeadDim>& sums, Running running, Shares<kHeadDim>& shares) {
  const unsigned warp = threadIdx.x / 32;
  const unsigned head = threadIdx.x % 32 / 4;
#pragma unroll
  for (unsigned i = 0; i < kHeadDim / kEight; ++i) {
    *reinterpret_cast<float2*>(&shares.values[warp][head][i * kEight + threadIdx.x % 4 * 2]) = {
        sums[i][0] + sums[i][2], sums[i][1] + sums[i][3]};
  }
  running.sum += __shfl_xor_sync(kAll, running.sum, 1);
  running.sum += __shfl_xor_sync(kAll, running.sum, 2);
  if (threadIdx.x % 4 == 0) shares.running[warp][head] = running;
}

// The warps' sums, added in order, relative to the largest score of the block.
template <unsigned kHeadDim, class Value>
__device__ void join_warps(const Split<Value>& s, const Heads& heads,
                           const Shares<kHeadDim>& shares) {
  for (unsigned i = threadIdx.x; i < heads.count * kHeadDim; i += kThreads) {
    const unsigned h = i / kHeadDim;
    const unsigned d = i % kHeadDim;
    float largest = -INFINITY;
    for (unsigned w = 0; w < kWarps; ++w) largest = fmaxf(largest, shares.running[w][h].largest);
    float value = 0.0F;
    float sum = 0.0F;
    for (unsigned w = 0; w < kWarps; ++w) {
      const float factor = exp2f(shares.running[w][h].largest - largest);
      value += factor * shares.values[w][h][d];
      sum += factor * shares.running[w][h].sum;
    }
    float* partial =
        s.partials + (std::size_t{heads.first + h} * s.splits + blockIdx.x) * kPartial<kHeadDim>;
    partial[d] = value;
    if (d == 0) {
      partial[kHeadDim] = largest;
      partial[kHeadDim + 1] = sum;
    }
  }
}

// Stages are not needed any more when the warps leave their sums.
template <unsigned kHeadDim>
union SharedMemory {
  Stage<kHeadDim> stages[kWarps][kStages<kHeadDim>];
  Shares<kHeadDim> shares;
};

template <unsigned kHeadDim, class Value>
__global__ void __launch_bounds__(kThreads, kHeadDim > 128 ? 2 : 3)
    attention_split(const Split<Value> s) {
  begin_after_others();
  constexpr unsigned kLast = kStages<kHeadDim> - 1;
  constexpr unsigned kStep = kWarps * kKeys;
  extern __shared__ __align__(16) uint4 dynamic[];
  auto& shared = *reinterpret_cast<SharedMemory<kHeadDim>*>(dynamic);
  const Heads heads = heads_of(s);
  const unsigned warp = threadIdx.x / 32;
  const unsigned begin = blockIdx.x * s.keys;
  const unsigned end = min(begin + s.keys, static_cast<unsigned>(s.p.past) + 1);
  unsigned first = begin + warp * kKeys;
  Stage<kHeadDim>(&stages)[kStages<kHeadDim>] = shared.stages[warp];
  ask(s, heads.kv, first, end, stages[0]);
  Queries<kHeadDim> queries;
  load_queries<kHeadDim>(s, heads, queries);
  Sums<kHeadDim> sums = {};
  Running running;
  for (unsigned slot = 0; first < end; first += kStep) {
    if constexpr (kLast > 0) ask(s, heads.kv, first + kStep, end, stages[kLast - slot]);
    wait_for_stage<kLast>();
    float weights[4];
    score_keys<kHeadDim>(s, stages[slot], first, end, queries, weights);
    const float factor = soften(weights, running);
    add_values<kHeadDim>(stages[slot], weights, factor, sums);
    __syncwarp();  // the next copies overwrite what all have read
    if constexpr (kLast == 0) ask(s, heads.kv, first + kStep, end, stages[0]);
    slot = kLast - slot;
  }
  __syncthreads();
  leave<kHeadDim>(sums, running, shared.shares);
  __syncthreads();
  join_warps<kHeadDim>(s, heads, shared.shares);
}

constexpr unsigned kJoiningWarps = 8;

// What a warp has of the splits that it looks at, and what all warps have: eight columns of a
// thread, all of one head.
struct Joined {
  float largest = -INFINITY;
  float sum = 0.0F;
  float values[kEight] = {};

  __device__ void add(float other_largest, float other_sum, const float (&other)[kEight]) {
    const float together = fmaxf(largest, other_largest);
    // Nothing yet, or nothing to add: there is no difference of infinities.
    const float own_factor = largest == -INFINITY ? 0.0F : exp2f(largest - together);
    const float factor = other_largest == -INFINITY ? 0.0F : exp2f(other_largest - together);
    largest = together;
    sum = own_factor * sum + factor * other_sum;
#pragma unroll
    for (unsigned e = 0; e < kEight; ++e) values[e] = own_factor * values[e] + factor * other[e];
  }
};

// Eight columns of a row of results, of which thread l of a warp has those from 256 * group + 8 * l
// on.
template <class Out>
__device__ void store_columns(Out* out, unsigned cols, unsigned group, const float (&v)[kEight]) {
  const unsigned col = group * kGroup + threadIdx.x * kEight;
  if (col < cols) store_eight(out + col, v);
}
__device__ void store_columns(DigitRecord* out, unsigned /*cols*/, unsigned group,
                              const float (&v)[kEight]) {
  store_digits(v, out + group, threadIdx.x);
}

template <class Value, class Out>
struct Join {
  Split<Value> split;
  Out* out;
};

// The ranges' sums, relative to the largest score of all: a block for each 256 columns of results,
// whose warps share the ranges.
template <unsigned kHeadDim, class Value, class Out>
__global__ void __launch_bounds__(32 * kJoiningWarps) join_splits(const Join<Value, Out> join) {
  begin_after_others();
  const Split<Value>& s = join.split;
  __shared__ Joined shares[kJoiningWarps][32];
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const unsigned cols = static_cast<unsigned>(s.p.heads) * kHeadDim;
  const unsigned col = blockIdx.x * kGroup + lane * kEight;
  Joined own;
  if (col < cols) {
    const float* partial = s.partials + std::size_t{col / kHeadDim} * s.splits * kPartial<kHeadDim>;
#pragma unroll 4
    for (unsigned i = warp; i < s.splits; i += kJoiningWarps) {
      const float* range = partial + std::size_t{i} * kPartial<kHeadDim>;
      float values[kEight];
      load_eight(range + col % kHeadDim, values);
      own.add(range[kHeadDim], range[kHeadDim + 1], values);
    }
  }
  shares[warp][lane] = own;
  __syncthreads();
  if (warp != 0) return;
  for (unsigned w = 1; w < kJoiningWarps; ++w) {
    const Joined& other = shares[w][lane];
    own.add(other.largest, other.sum, other.values);
  }
  float result[kEight];
#pragma unroll
  for (unsigned e = 0; e < kEight; ++e) result[e] = col < cols ? own.values[e] / own.sum : 0.0F;
  store_columns(join.out, cols, blockIdx.x, result);
}

template <unsigned kHeadDim, class Value, class Out>
void launch(const Split<Value>& s, Out* out, cudaStream_t stream) {
  const dim3 grid(s.splits, static_cast<unsigned>(s.p.kv_heads) * s.group_blocks);
  constexpr std::size_t kShared = sizeof(SharedMemory<kHeadDim>);
  const auto kernel = attention_split<kHeadDim, Value>;
  static std::atomic<std::uint64_t> allowed{0};
  allow_shared(kernel, kShared, allowed);
  launch_early(kernel, {grid, kThreads, kShared, stream}, s);
  const unsigned groups = blocks_for(static_cast<std::size_t>(s.p.heads) * kHeadDim, kGroup);
  launch_early(join_splits<kHeadDim, Value, Out>, {groups, 32 * kJoiningWarps, 0, stream},
               Join<Value, Out>{s, out});
}

template <class Value, class Out>
bool launch_for(const AttentionProblem<Value, Value>& p, std::size_t head_dim, float* partials,
                Out* out, cudaStream_t stream) {
  const auto kv_heads = static_cast<std::size_t>(p.kv_heads);
  const auto group = static_cast<unsigned>(p.heads / p.kv_heads);
  const auto positions = static_cast<std::size_t>(p.past) + 1;
  const std::size_t keys = split_keys(positions, kv_heads);
  const Split<Value> s{p, partials, blocks_for(positions, keys), static_cast<unsigned>(keys),
                       (group + kHeads - 1) / kHeads};
  switch (head_dim) {
    case 64:
      launch<64>(s, out, stream);
      return true;
    case 128:
      launch<128>(s, out, stream);
      return true;
    case 256:
      launch<256>(s, out, stream);
      return true;
    default:
      return false;
  }
}

}  // namespace

template <class Value>
bool launch_attention_splits(const AttentionProblem<Value, Value>& p, std::size_t head_dim,
                             float* partials, cudaStream_t stream) {
  return launch_for(p, head_dim, partials, p.out, stream);
}

bool launch_attention_splits_to_digits(const AttentionProblem<float, float>& p,
                                       std::size_t head_dim, float* partials, std::byte* digits,
                                       cudaStream_t stream) {
  return launch_for(p, head_dim, partials, reinterpret_cast<DigitRecord*>(digits), stream);
}

template bool launch_attention_splits(const AttentionProblem<float, float>&, std::size_t, float*,
                                      cudaStream_t);
template bool launch_attention_splits(const AttentionProblem<__half, __half>&, std::size_t, float*,
                                      cudaStream_t);

}  // namespace tensor_pager::kernels::cuda
