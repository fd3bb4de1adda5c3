// SPDX-License-Identifier: Apache-2.0
#include "cuda/attention_kernels.hpp"
#include "cuda/digits.cuh"
#include "cuda/launch.hpp"
#include "cuda/launch_early.cuh"
#include "cuda/rounding.cuh"

// Attention of a single token: it reads every key and value once, so what counts is that enough of
// them are on their way at the same time. Each block takes a range of keys and the query heads that
// share a key/value head, a warp of it some keys at a time; a second kernel joins the ranges.
// Weights are relative to the largest score that a warp has seen so far ("online softmax": Milakov
// and Gimelshein, 2018), which is joined like the sums.

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kWarps = kThreads / 32;
constexpr unsigned kHeads = 8;  // of queries that a block works on, at most
constexpr unsigned kEight = 8;  // dimensions that a thread has of a key or a value
constexpr unsigned kAll = 0xFFFFFFFFU;
template <unsigned kHeadDim>
constexpr std::size_t kPartial = partial_floats(kHeadDim);
// Of a warp at a time: fewer where more would not fit the shared memory of all GPUs.
template <unsigned kHeadDim>
constexpr unsigned kKeys = kHeadDim > 128 ? 8 : 16;

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

__device__ inline void load_eight(const __half* from, float (&v)[kEight]) {
  union {
    uint4 word;
    __half2 halves[4];
  } eight;
  eight.word = *reinterpret_cast<const uint4*>(from);
#pragma unroll
  for (unsigned e = 0; e < 4; ++e) {
    const float2 two = __half22float2(eight.halves[e]);
    v[2 * e] = two.x;
    v[2 * e + 1] = two.y;
  }
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

// What a warp keeps in shared memory: a row of heads for each key.
template <unsigned kHeadDim>
using Scores = float[kKeys<kHeadDim>][kHeads];

// A warp's view of its keys: kLanes threads share one, and kAtOnce of them are read together.
template <unsigned kHeadDim>
struct Lanes {
  static constexpr unsigned kLanes = kHeadDim / kEight;
  static constexpr unsigned kAtOnce = 32 / kLanes;
  __device__ static unsigned key() { return threadIdx.x % 32 / kLanes; }
  __device__ static unsigned first_dim() { return threadIdx.x % kLanes * kEight; }
};

// Adds up each of eight numbers over kLanes neighbouring threads. Half of the numbers go to the
// neighbour each time, so that thread l ends with the sum of number l % 8.
template <unsigned kLanes>
__device__ float add_up(const float (&v)[kHeads]) {
  const unsigned lane = threadIdx.x % 32;
  float four[4];
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    const float given = lane & 4 ? v[i] : v[i + 4];
    four[i] = (lane & 4 ? v[i + 4] : v[i]) + __shfl_xor_sync(kAll, given, 4);
  }
  float two[2];
#pragma unroll
  for (unsigned i = 0; i < 2; ++i) {
    const float given = lane & 2 ? four[i] : four[i + 2];
    two[i] = (lane & 2 ? four[i + 2] : four[i]) + __shfl_xor_sync(kAll, given, 2);
  }
  const float given = lane & 1 ? two[0] : two[1];
  float sum = (lane & 1 ? two[1] : two[0]) + __shfl_xor_sync(kAll, given, 1);
#pragma unroll
  for (unsigned distance = 8; distance < kLanes; distance *= 2) {
    sum += __shfl_xor_sync(kAll, sum, distance);
  }
  return sum;
}

// A warp's next keys and values, which come while it works on those before.
template <unsigned kHeadDim>
struct Stage {
  __half keys[kKeys<kHeadDim>][kHeadDim];
  __half values[kKeys<kHeadDim>][kHeadDim];
};
constexpr unsigned kStages = 2;

// Asks for what is in the cache from key `first` on, by all threads of a warp. In place of keys
// past the end, the last one comes again. A group of copies, be there any or not.
template <unsigned kHeadDim, class Value>
__device__ void ask(const Split<Value>& s, unsigned kv_head, unsigned first, unsigned end,
                    Stage<kHeadDim>& stage) {
  constexpr unsigned kPieces = kHeadDim / kEight;  // of a key
  for (unsigned i = threadIdx.x % 32; first < end && i < kKeys<kHeadDim> * kPieces; i += 32) {
    const unsigned row = i / kPieces;
    const unsigned dim = i % kPieces * kEight;
    const std::size_t from =
        min(first + row, end - 1) * s.p.position_stride + kv_head * kHeadDim + dim;
    const auto copy = [](const __half* global, const __half* shared) {
      const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(to), "l"(global) : "memory");
    };
    copy(s.p.keys + from, &stage.keys[row][dim]);
    copy(s.p.values + from, &stage.values[row][dim]);
  }
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

// Until all but the last group of copies have come, for all threads of the warp.
__device__ inline void wait_for_all_but_one() {
  asm volatile("cp.async.wait_group 1;\n" ::: "memory");
  __syncwarp();
}

// Scores of a warp's next keys, already scaled; past the end, -inf.
template <unsigned kHeadDim, class Value>
__device__ void score_keys(const Split<Value>& s, const Stage<kHeadDim>& stage, unsigned first,
                           unsigned end, const float (&q)[kHeads][kHeadDim],
                           Scores<kHeadDim>& scores) {
  using L = Lanes<kHeadDim>;
  float queries[kHeads][kEight];
#pragma unroll
  for (unsigned h = 0; h < kHeads; ++h) load_eight(&q[h][L::first_dim()], queries[h]);
#pragma unroll 2
  for (unsigned i = L::key(); i < kKeys<kHeadDim>; i += L::kAtOnce) {
    float key[kEight];
    load_eight(&stage.keys[i][L::first_dim()], key);
    float sums[kHeads] = {};
#pragma unroll
    for (unsigned h = 0; h < kHeads; ++h) {
#pragma unroll
      for (unsigned e = 0; e < kEight; ++e) sums[h] += queries[h][e] * key[e];
    }
    const float sum = add_up<L::kLanes>(sums);
    if (threadIdx.x % L::kLanes < kHeads) {
      scores[i][threadIdx.x % kHeads] = first + i < end ? sum * s.p.scale : -INFINITY;
    }
  }
}

// The largest score that a warp has seen of a head, and the sum of its weights: of the keys that a
// thread has looked at, those of head l % 8 that are l / 8 more than a multiple of four.
struct Running {
  float largest = -INFINITY;
  float sum = 0.0F;
};

// Turns scores into weights. Returns by how much what was summed up before shrinks.
template <unsigned kKeyCount>
__device__ float soften(float (&scores)[kKeyCount][kHeads], Running& running) {
  const unsigned head = threadIdx.x % kHeads;
  const unsigned first = threadIdx.x % 32 / kHeads;
  constexpr unsigned kOwn = kKeyCount / 4;
  float own[kOwn];
  float largest = running.largest;
#pragma unroll
  for (unsigned i = 0; i < kOwn; ++i) {
    own[i] = scores[4 * i + first][head];
    largest = fmaxf(largest, own[i]);
  }
  largest = fmaxf(largest, __shfl_xor_sync(kAll, largest, 8));
  largest = fmaxf(largest, __shfl_xor_sync(kAll, largest, 16));
  const float factor = exp2f(running.largest - largest);
  running.largest = largest;
  running.sum *= factor;
#pragma unroll
  for (unsigned i = 0; i < kOwn; ++i) {
    const float weight = exp2f(own[i] - largest);
    scores[4 * i + first][head] = weight;
    running.sum += weight;
  }
  return factor;
}

template <unsigned kHeadDim>
__device__ void add_values(const Stage<kHeadDim>& stage, const Scores<kHeadDim>& weights,
                           float (&sums)[kHeads][kEight]) {
  using L = Lanes<kHeadDim>;
#pragma unroll 2
  for (unsigned i = L::key(); i < kKeys<kHeadDim>; i += L::kAtOnce) {
    float value[kEight];
    load_eight(&stage.values[i][L::first_dim()], value);
    float weight[kHeads];
    load_eight(weights[i], weight);
#pragma unroll
    for (unsigned h = 0; h < kHeads; ++h) {
#pragma unroll
      for (unsigned e = 0; e < kEight; ++e) sums[h][e] += weight[h] * value[e];
    }
  }
}

// What a block's warps leave for each other.
template <unsigned kHeadDim>
struct Shares {
  float values[kWarps][kHeads][kHeadDim];
  Running running[kWarps][kHeads];
};

// A warp's sums, of the threads that share its keys and of those that share its heads.
template <unsigned kHeadDim>
__device__ void leave(float (&sums)[kHeads][kEight], Running running, Shares<kHeadDim>& shares) {
  using L = Lanes<kHeadDim>;
  const unsigned warp = threadIdx.x / 32;
  const unsigned lane = threadIdx.x % 32;
#pragma unroll
  for (unsigned h = 0; h < kHeads; ++h) {
#pragma unroll
    for (unsigned e = 0; e < kEight; ++e) {
#pragma unroll
      for (unsigned distance = L::kLanes; distance < 32; distance *= 2) {
        sums[h][e] += __shfl_xor_sync(kAll, sums[h][e], distance);
      }
    }
    if (lane < L::kLanes) store_eight(&shares.values[warp][h][L::first_dim()], sums[h]);
  }
  running.sum += __shfl_xor_sync(kAll, running.sum, 8);
  running.sum += __shfl_xor_sync(kAll, running.sum, 16);
  if (lane < kHeads) shares.running[warp][lane] = running;
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

// Queries, scores and stages are not needed any more when the warps leave their sums.
template <unsigned kHeadDim>
union SharedMemory {
  struct {
    Stage<kHeadDim> stages[kWarps][kStages];
    Scores<kHeadDim> scores[kWarps];
    float q[kHeads][kHeadDim];
  } before;
  Shares<kHeadDim> after;
};

template <unsigned kHeadDim, class Value>
__global__ void __launch_bounds__(kThreads, 3) attention_split(const Split<Value> s) {
  begin_after_others();
  extern __shared__ __align__(16) uint4 dynamic[];
  auto& shared = *reinterpret_cast<SharedMemory<kHeadDim>*>(dynamic);
  const Heads heads = heads_of(s);
  const unsigned warp = threadIdx.x / 32;
  const unsigned begin = blockIdx.x * s.keys;
  const unsigned end = min(begin + s.keys, static_cast<unsigned>(s.p.past) + 1);
  unsigned first = begin + warp * kKeys<kHeadDim>;
  Stage<kHeadDim>(&stages)[kStages] = shared.before.stages[warp];
  ask(s, heads.kv, first, end, stages[0]);
  const Value* q = s.p.q + std::size_t{heads.first} * kHeadDim;
  for (unsigned i = threadIdx.x; i < kHeads * kHeadDim; i += kThreads) {
    shared.before.q[i / kHeadDim][i % kHeadDim] =
        i < heads.count * kHeadDim ? to_float(q[i]) : 0.0F;
  }
  __syncthreads();
  float sums[kHeads][kEight] = {};
  Running running;
  for (unsigned slot = 0; first < end; first += kWarps * kKeys<kHeadDim>, slot = 1 - slot) {
    Scores<kHeadDim>& scores = shared.before.scores[warp];
    ask(s, heads.kv, first + kWarps * kKeys<kHeadDim>, end, stages[1 - slot]);
    wait_for_all_but_one();
    score_keys<kHeadDim>(s, stages[slot], first, end, shared.before.q, scores);
    __syncwarp();
    const float factor = soften(scores, running);
    __syncwarp();
#pragma unroll
    for (unsigned h = 0; h < kHeads; ++h) {
      const float of_head = __shfl_sync(kAll, factor, static_cast<int>(h));
#pragma unroll
      for (unsigned e = 0; e < kEight; ++e) sums[h][e] *= of_head;
    }
    add_values<kHeadDim>(stages[slot], scores, sums);
    __syncwarp();  // the next copies overwrite what all have read
  }
  __syncthreads();
  leave<kHeadDim>(sums, running, shared.after);
  __syncthreads();
  join_warps<kHeadDim>(s, heads, shared.after);
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
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(kShared)),
        "cudaFuncSetAttribute", {kShared});
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
