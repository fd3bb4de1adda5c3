// SPDX-License-Identifier: Apache-2.0
#include "cuda/attention_kernels.hpp"
#include "cuda/launch.hpp"
#include "cuda/rounding.cuh"
#include "cuda/tensor_core.cuh"
#include "kernels/cuda/operand.hpp"

// Causal attention of many tokens (Dao, FlashAttention-2, 2023): a block of threads holds the
// queries of one head in shared memory and walks over blocks of keys and values, of which the next
// is copied while one is multiplied. Scores live in registers only.

namespace tensor_pager::kernels::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;

template <int kHeadDimension>
struct Tile {
  static constexpr int kHeadDim = kHeadDimension;
  // Each warp has kSets times 16 queries. Two sets share every tile that is read from shared
  // memory; the sums of two sets of 256 dimensions would not fit the registers.
  static constexpr int kSets = kHeadDim <= 128 ? 2 : 1;
  static constexpr int kQueries = 16 * kSets * kWarps;
  static constexpr int kKeys = kHeadDim == 64 ? 64 : 32;  // as many as leave nothing to be spilled
  static constexpr int kScoreTiles = kKeys / 8;
  static constexpr int kValueTiles = kHeadDim / 8;

  static constexpr int kRowBytes = kHeadDim * 2;
  static constexpr int kStageBytes = 2 * kKeys * kRowBytes;  // keys, then values
  static constexpr int kSharedBytes = kQueries * kRowBytes + 2 * kStageBytes;
};

// Where 16 bytes of a row of halves are in shared memory: eight rows' chunks of the same column
// are in different banks.
template <class T>
__device__ std::uint32_t chunk_offset(int row, int chunk) {
  return static_cast<std::uint32_t>(row * T::kRowBytes + ((chunk ^ (row & 7)) << 4));
}

// Where this thread's row of the tiles that ldmatrix reads begins, relative to the matrix: rows
// `row` and on, columns from 8 * chunk on. Sixteen columns further on is XOR 32, since a row begins
// at a multiple of its length: one register serves a whole matrix.
template <class T>
struct TileRows {
  std::uint32_t left;          // 16 x 16 of the queries, this warp's
  std::uint32_t right;         // 16 keys x 16 columns
  std::uint32_t right_values;  // 16 keys x 16 columns, to be transposed

  __device__ explicit TileRows(int thread) {
    const int lane = thread % 32;
    left = chunk_offset<T>(thread / 32 * 16 * T::kSets + lane % 16, lane / 16);
    right = chunk_offset<T>(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    right_values = chunk_offset<T>(lane % 16, lane / 16);
  }
};

// Softmax state and results of a warp's queries. Thread l has rows l / 4 and l / 4 + 8 of every
// set, and of every tile of eight columns 2 (l % 4) and the next.
template <class T>
struct Sums {
  float values[T::kSets][T::kValueTiles][4];
  float largest[T::kSets][2];
  float weights[T::kSets][2];  // this thread's columns only, until the end
};

// Eight queries of a row as halves.
__device__ uint4 load_eight(const float* q) {
  const float4 a = reinterpret_cast<const float4*>(q)[0];
  const float4 b = reinterpret_cast<const float4*>(q)[1];
  return {pack_halves(a.x, a.y), pack_halves(a.z, a.w), pack_halves(b.x, b.y),
          pack_halves(b.z, b.w)};
}
__device__ uint4 load_eight(const __half* q) {
  return *reinterpret_cast<const uint4*>(q);
}

template <class T, class Problem>
__device__ void load_queries(const Problem& p, int first, int head, char* shared) {
  constexpr int kChunks = T::kHeadDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < T::kQueries * kChunks; i += kThreads) {
    const int row = i / kChunks;
    const int chunk = i % kChunks;
    uint4 halves{};
    if (first + row < p.tokens) {
      halves = load_eight(p.q + static_cast<std::size_t>(first + row) * p.q_stride +
                          head * T::kHeadDim + chunk * 8);
    }
    *reinterpret_cast<uint4*>(shared + chunk_offset<T>(row, chunk)) = halves;
  }
}

// Starts to copy a block of keys and values. What is not in the cache becomes zeros: its weights
// are zero, and zero times whatever lies there might not be.
template <class T, class Problem>
__device__ void copy_keys(const Problem& p, int first, int kv_head, std::uint32_t stage) {
  constexpr int kChunks = T::kHeadDim / 8;
  constexpr int kRows = kThreads / kChunks;  // copied at a time
  const int thread = static_cast<int>(threadIdx.x);
  const int chunk = thread % kChunks;
  int row = thread / kChunks;
  const int rows = p.past + p.tokens - first;  // that there are
  std::size_t from = static_cast<std::size_t>(first + row) * p.position_stride +
                     static_cast<std::size_t>(kv_head * T::kHeadDim + chunk * 8);
#pragma unroll
  for (int step = 0; step < T::kKeys / kRows; ++step) {
    const std::uint32_t to = stage + chunk_offset<T>(row, chunk);
    copy_async(to, p.keys + from, row < rows);
    copy_async(to + T::kKeys * T::kRowBytes, p.values + from, row < rows);
    row += kRows;
    from += kRows * p.position_stride;
  }
  commit_copies();
}

// scores = queries x keys of the block.
template <class T>
__device__ void score(float (&scores)[T::kSets][T::kScoreTiles][4], std::uint32_t queries,
                      std::uint32_t keys) {
#pragma unroll
  for (int set = 0; set < T::kSets; ++set) {
#pragma unroll
    for (int tile = 0; tile < T::kScoreTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[set][tile][i] = 0.0F;
    }
  }
#pragma unroll
  for (std::uint32_t k = 0; k < T::kHeadDim / 16; ++k) {
    std::uint32_t a[T::kSets][4];
#pragma unroll
    for (std::uint32_t set = 0; set < T::kSets; ++set) {
      load_tiles(a[set], (queries ^ 32 * k) + 16 * set * T::kRowBytes);
    }
#pragma unroll
    for (std::uint32_t pair = 0; pair < T::kScoreTiles / 2; ++pair) {
      std::uint32_t b[4];
      load_tiles(b, (keys ^ 32 * k) + 16 * pair * T::kRowBytes);
#pragma unroll
      for (int set = 0; set < T::kSets; ++set) {
        multiply_tiles(scores[set][2 * pair], a[set], b[0], b[1]);
        multiply_tiles(scores[set][2 * pair + 1], a[set], b[2], b[3]);
      }
    }
  }
}

// Scores of keys after the query's own position do not count.
template <class T>
__device__ void mask(float (&scores)[T::kSets][T::kScoreTiles][4], int first_key,
                     int first_position) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int set = 0; set < T::kSets; ++set) {
#pragma unroll
    for (int tile = 0; tile < T::kScoreTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = first_key + 8 * tile + 2 * (lane % 4) + i % 2;
        const int position = first_position + 16 * set + lane / 4 + i / 2 * 8;
        if (key > position) scores[set][tile][i] = -INFINITY;
      }
    }
  }
}

// Scores become weights relative to the largest score so far, and the sums follow it. A block
// whose keys are all masked for a query leaves its bits as they are.
template <class T>
__device__ void soften(float (&scores)[T::kSets][T::kScoreTiles][4], Sums<T>& sums, float scale) {
#pragma unroll
  for (int set = 0; set < T::kSets; ++set) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = sums.largest[set][half];
#pragma unroll
      for (int tile = 0; tile < T::kScoreTiles; ++tile) {
        largest =
            fmaxf(largest, fmaxf(scores[set][tile][2 * half], scores[set][tile][2 * half + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 2));
      const float offset = largest * scale;
      const float correction = exp2_fast((sums.largest[set][half] - largest) * scale);
      sums.largest[set][half] = largest;
      float weights = sums.weights[set][half] * correction;
#pragma unroll
      for (int tile = 0; tile < T::kScoreTiles; ++tile) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[set][tile][i] = exp2_fast(fmaf(scores[set][tile][i], scale, -offset));
          weights += scores[set][tile][i];
        }
      }
      sums.weights[set][half] = weights;
      // Mostly the largest score has been seen long ago.
      if (__all_sync(0xFFFFFFFFU, correction == 1.0F)) continue;
#pragma unroll
      for (int tile = 0; tile < T::kValueTiles; ++tile) {
        sums.values[set][tile][2 * half] *= correction;
        sums.values[set][tile][2 * half + 1] *= correction;
      }
    }
  }
}

// sums += weights x values. The scores' layout is already that of a left operand.
template <class T>
__device__ void add_values(const float (&weights)[T::kSets][T::kScoreTiles][4], Sums<T>& sums,
                           std::uint32_t values) {
#pragma unroll
  for (std::uint32_t k = 0; k < T::kKeys / 16; ++k) {
    std::uint32_t a[T::kSets][4];
#pragma unroll
    for (int set = 0; set < T::kSets; ++set) {
      const float(&low)[4] = weights[set][2 * k];
      const float(&high)[4] = weights[set][2 * k + 1];
      a[set][0] = pack_halves(low[0], low[1]);
      a[set][1] = pack_halves(low[2], low[3]);
      a[set][2] = pack_halves(high[0], high[1]);
      a[set][3] = pack_halves(high[2], high[3]);
    }
#pragma unroll
    for (std::uint32_t pair = 0; pair < T::kValueTiles / 2; ++pair) {
      std::uint32_t b[4];
      load_tiles_transposed(b, (values ^ 32 * pair) + 16 * k * T::kRowBytes);
#pragma unroll
      for (int set = 0; set < T::kSets; ++set) {
        multiply_tiles(sums.values[set][2 * pair], a[set], b[0], b[1]);
        multiply_tiles(sums.values[set][2 * pair + 1], a[set], b[2], b[3]);
      }
    }
  }
}

template <class T, class Problem>
__device__ void store(const Problem& p, Sums<T>& sums, int first, int head) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int set = 0; set < T::kSets; ++set) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float weights = sums.weights[set][half];
      weights += __shfl_xor_sync(0xFFFFFFFFU, weights, 1);
      weights += __shfl_xor_sync(0xFFFFFFFFU, weights, 2);
      const float inverse = 1.0F / weights;
      const int row = first + 16 * set + lane / 4 + 8 * half;
      if (row >= p.tokens) continue;
      const std::size_t at = static_cast<std::size_t>(row) * p.out_stride +
                             static_cast<std::size_t>(head * T::kHeadDim + 2 * (lane % 4));
#pragma unroll
      for (int tile = 0; tile < T::kValueTiles; ++tile) {
        const float pair[2] = {sums.values[set][tile][2 * half] * inverse,
                               sums.values[set][tile][2 * half + 1] * inverse};
        store_together<2>(p.out + at + 8 * tile, pair);
      }
    }
  }
}

template <class T, class Problem>
__global__ void __launch_bounds__(kThreads) attention_tiles(const Problem p) {
  extern __shared__ __align__(1024) char shared[];
  const std::uint32_t queries = shared_address(shared);
  const std::uint32_t stages = queries + T::kQueries * T::kRowBytes;
  const int head = static_cast<int>(blockIdx.x);
  const int kv_head = head / (p.heads / p.kv_heads);
  // The last queries have the most keys, so they begin first.
  const int first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * T::kQueries;
  const int last = min(first + T::kQueries, p.tokens) - 1;
  const int key_blocks = (p.past + last) / T::kKeys + 1;
  const int warp_first = first + static_cast<int>(threadIdx.x) / 32 * 16 * T::kSets;
  const int warp_last = warp_first + 16 * T::kSets - 1;

  copy_keys<T>(p, 0, kv_head, stages);
  load_queries<T>(p, first, head, shared);
  const TileRows<T> rows(static_cast<int>(threadIdx.x));
  Sums<T> sums{};
#pragma unroll
  for (int set = 0; set < T::kSets; ++set) {
    sums.largest[set][0] = -INFINITY;
    sums.largest[set][1] = -INFINITY;
  }
  for (int block = 0; block < key_blocks; ++block) {
    const std::uint32_t stage = stages + static_cast<std::uint32_t>(block & 1) * T::kStageBytes;
    // After the barrier this block's copies of all threads are there, and nobody reads the other
    // stage any more.
    wait_for_copies();
    __syncthreads();
    if (block + 1 < key_blocks) {
      const std::uint32_t next = stages + static_cast<std::uint32_t>(~block & 1) * T::kStageBytes;
      copy_keys<T>(p, (block + 1) * T::kKeys, kv_head, next);
    }
    const int first_key = block * T::kKeys;
    if (first_key > p.past + warp_last) continue;  // all masked for this warp
    float scores[T::kSets][T::kScoreTiles][4];
    score<T>(scores, queries + rows.left, stage + rows.right);
    if (first_key + T::kKeys - 1 > p.past + warp_first) {
      mask<T>(scores, first_key, p.past + warp_first);
    }
    soften<T>(scores, sums, p.scale);
    add_values<T>(scores, sums, stage + T::kKeys * T::kRowBytes + rows.right_values);
  }
  store<T>(p, sums, warp_first, head);
}

template <class T, class Problem>
void launch(const Problem& p, cudaStream_t stream) {
  // More than 48 KiB must be asked for, on each device; it costs a fraction of a microsecond.
  check(cudaFuncSetAttribute(attention_tiles<T, Problem>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes),
        "attention: cudaFuncSetAttribute", {T::kSharedBytes});
  const dim3 grid(static_cast<unsigned>(p.heads),
                  blocks_for(static_cast<std::size_t>(p.tokens), T::kQueries));
  attention_tiles<T, Problem><<<grid, kThreads, T::kSharedBytes, stream>>>(p);
}

}  // namespace

template <class Query, class Out>
bool launch_attention_tiles(const AttentionProblem<Query, Out>& p, std::size_t head_dim,
                            cudaStream_t stream) {
  switch (head_dim) {
    case 64:
      launch<Tile<64>>(p, stream);
      break;
    case 128:
      launch<Tile<128>>(p, stream);
      break;
    case 256:
      launch<Tile<256>>(p, stream);
      break;
    default:
      return false;
  }
  return true;
}

template bool launch_attention_tiles(const AttentionProblem<float, float>&, std::size_t,
                                     cudaStream_t);
template bool launch_attention_tiles(const AttentionProblem<__half, __half>&, std::size_t,
                                     cudaStream_t);

}  // namespace tensor_pager::kernels::cuda
