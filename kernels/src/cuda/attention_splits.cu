// SPDX-License-Identifier: Apache-2.0
#include "cuda/attention_kernels.hpp"
#include "cuda/launch.hpp"
#include "cuda/launch_early.cuh"
#include "cuda/rounding.cuh"

// Attention of a single token: it reads every key and value once, so what counts is that many
// blocks of threads do so at the same time. Each takes a range of keys and the query heads that
// share a key/value head; a second kernel adds up the ranges in order.

namespace tensor_pager::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kKeys = static_cast<int>(kSplitKeys);
template <int kHeadDim>
constexpr std::size_t kPartial = partial_floats(kHeadDim);
constexpr int kGroup = 8;  // query heads that a block works on, at most

template <class Value>
struct Split {
  AttentionProblem<Value, Value> p;
  float* partials;
  int splits;
  int group_blocks;  // blocks for the query heads of one key/value head
};

// The query heads of a block.
struct Heads {
  int kv;
  int first;
  int count;
};

template <class Value>
__device__ Heads heads_of(const Split<Value>& s) {
  const int group = s.p.heads / s.p.kv_heads;
  const int kv = static_cast<int>(blockIdx.y) / s.group_blocks;
  const int first = static_cast<int>(blockIdx.y) % s.group_blocks * kGroup;
  return {kv, kv * group + first, min(kGroup, group - first)};
}

// Scores of this range, one key per thread at a time, already scaled; those past the end are -inf.
template <int kHeadDim, class Value>
__device__ void score_keys(const Split<Value>& s, const Heads& heads, int first, int end,
                           const float (&q)[kGroup][kHeadDim], float (&scores)[kGroup][kKeys]) {
  for (int i = static_cast<int>(threadIdx.x); i < kKeys; i += kThreads) {
    float sums[kGroup] = {};
    if (first + i < end) {
      const __half* key = s.p.keys + static_cast<std::size_t>(first + i) * s.p.position_stride +
                          heads.kv * kHeadDim;
      for (int d = 0; d < kHeadDim; d += 8) {
        union {
          uint4 word;
          __half2 halves[4];
        } eight;
        eight.word = *reinterpret_cast<const uint4*>(key + d);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float2 k = __half22float2(eight.halves[e]);
#pragma unroll
          for (int h = 0; h < kGroup; ++h) {
            const float2 at = *reinterpret_cast<const float2*>(&q[h][d + 2 * e]);
            sums[h] += at.x * k.x + at.y * k.y;
          }
        }
      }
    }
#pragma unroll
    for (int h = 0; h < kGroup; ++h) {
      scores[h][i] = first + i < end ? sums[h] * s.p.scale : -INFINITY;
    }
  }
}

// Turns the scores of a head into weights: one warp per head at a time.
template <int kHeadDim, class Value>
__device__ void soften(const Split<Value>& s, const Heads& heads, int split,
                       float (&scores)[kGroup][kKeys]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int h = static_cast<int>(threadIdx.x) / 32; h < heads.count; h += kThreads / 32) {
    float largest = -INFINITY;
    for (int i = lane; i < kKeys; i += 32) largest = fmaxf(largest, scores[h][i]);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, distance));
    }
    float sum = 0.0F;
    for (int i = lane; i < kKeys; i += 32) {
      const float weight = exp2f(scores[h][i] - largest);
      scores[h][i] = weight;
      sum += weight;
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(0xFFFFFFFFU, sum, distance);
    }
    if (lane == 0) {
      float* partial = s.partials + static_cast<std::size_t>((heads.first + h) * s.splits + split) *
                                        kPartial<kHeadDim>;
      partial[kHeadDim] = largest;
      partial[kHeadDim + 1] = sum;
    }
  }
}

// Two dimensions per thread; where that leaves threads over, they share the keys.
template <int kHeadDim, class Value>
__device__ void add_values(const Split<Value>& s, const Heads& heads, int first, int end, int split,
                           const float (&weights)[kGroup][kKeys],
                           float (&shares)[kGroup][kHeadDim]) {
  constexpr int kPairs = kHeadDim / 2;
  constexpr int kShares = kThreads / kPairs;
  const int pair = static_cast<int>(threadIdx.x) % kPairs;
  const int share = static_cast<int>(threadIdx.x) / kPairs;
  const int count = min(kKeys, end - first);
  float2 sums[kGroup] = {};
  const __half* value = s.p.values + static_cast<std::size_t>(first) * s.p.position_stride +
                        heads.kv * kHeadDim + 2 * pair;
#pragma unroll 4
  for (int i = share; i < count; i += kShares) {
    const float2 v = __half22float2(*reinterpret_cast<const __half2*>(
        value + static_cast<std::size_t>(i) * s.p.position_stride));
#pragma unroll
    for (int h = 0; h < kGroup; ++h) {
      sums[h].x += weights[h][i] * v.x;
      sums[h].y += weights[h][i] * v.y;
    }
  }
  // The shares are added one after the other.
  for (int turn = 0; turn < kShares; ++turn) {
    if (share == turn) {
#pragma unroll
      for (int h = 0; h < kGroup; ++h) {
        float* to = &shares[h][2 * pair];
        to[0] = turn == 0 ? sums[h].x : to[0] + sums[h].x;
        to[1] = turn == 0 ? sums[h].y : to[1] + sums[h].y;
      }
    }
    __syncthreads();
  }
  for (int i = static_cast<int>(threadIdx.x); i < heads.count * kHeadDim; i += kThreads) {
    const int h = i / kHeadDim;
    const int d = i % kHeadDim;
    s.partials[static_cast<std::size_t>((heads.first + h) * s.splits + split) * kPartial<kHeadDim> +
               static_cast<std::size_t>(d)] = shares[h][d];
  }
}

template <int kHeadDim, class Value>
__global__ void __launch_bounds__(kThreads) attention_split(const Split<Value> s) {
  begin_after_others();
  __shared__ __align__(16) float q[kGroup][kHeadDim];
  __shared__ float scores[kGroup][kKeys];
  const Heads heads = heads_of(s);
  const int split = static_cast<int>(blockIdx.x);
  const int first = split * kKeys;
  const int end = s.p.past + 1;
  for (int i = static_cast<int>(threadIdx.x); i < kGroup * kHeadDim; i += kThreads) {
    const int h = i / kHeadDim;
    q[h][i % kHeadDim] = h < heads.count ? to_float(s.p.q[heads.first * kHeadDim + i]) : 0.0F;
  }
  __syncthreads();
  score_keys<kHeadDim>(s, heads, first, end, q, scores);
  __syncthreads();
  soften<kHeadDim>(s, heads, split, scores);
  __syncthreads();  // q is not needed any more; its memory takes the sums
  add_values<kHeadDim>(s, heads, first, end, split, scores, q);
}

// out of one head: the ranges' sums, relative to the largest score of all.
template <int kHeadDim, class Value>
__global__ void __launch_bounds__(kHeadDim) join_splits(const Split<Value> s) {
  begin_after_others();
  const int head = static_cast<int>(blockIdx.x);
  const int d = static_cast<int>(threadIdx.x);
  const float* partial =
      s.partials + static_cast<std::size_t>(head * s.splits) * kPartial<kHeadDim>;
  float largest = -INFINITY;
  for (int i = 0; i < s.splits; ++i) {
    largest = fmaxf(largest, partial[static_cast<std::size_t>(i) * kPartial<kHeadDim> + kHeadDim]);
  }
  float value = 0.0F;
  float weight = 0.0F;
  for (int i = 0; i < s.splits; ++i) {
    const float* range = partial + static_cast<std::size_t>(i) * kPartial<kHeadDim>;
    const float factor = exp2f(range[kHeadDim] - largest);
    value += factor * range[d];
    weight += factor * range[kHeadDim + 1];
  }
  store_rounded(&s.p.out[head * kHeadDim + d], value / weight);
}

template <int kHeadDim, class Value>
void launch(const Split<Value>& s, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(s.splits),
                  static_cast<unsigned>(s.p.kv_heads * s.group_blocks));
  launch_early(attention_split<kHeadDim, Value>, {grid, kThreads, 0, stream}, s);
  launch_early(join_splits<kHeadDim, Value>,
               {static_cast<unsigned>(s.p.heads), kHeadDim, 0, stream}, s);
}

}  // namespace

template <class Value>
bool launch_attention_splits(const AttentionProblem<Value, Value>& p, std::size_t head_dim,
                             float* partials, cudaStream_t stream) {
  const int group = p.heads / p.kv_heads;
  const Split<Value> s{p, partials, p.past / kKeys + 1, (group + kGroup - 1) / kGroup};
  switch (head_dim) {
    case 64:
      launch<64>(s, stream);
      break;
    case 128:
      launch<128>(s, stream);
      break;
    case 256:
      launch<256>(s, stream);
      break;
    default:
      return false;
  }
  return true;
}

template bool launch_attention_splits(const AttentionProblem<float, float>&, std::size_t, float*,
                                      cudaStream_t);
template bool launch_attention_splits(const AttentionProblem<__half, __half>&, std::size_t, float*,
                                      cudaStream_t);

}  // namespace tensor_pager::kernels::cuda
