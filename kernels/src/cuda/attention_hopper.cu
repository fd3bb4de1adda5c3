// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cuda/attention_kernels.hpp"
#include "cuda/hopper.cuh"
#include "cuda/launch.hpp"
#include "cuda/tensor_core.cuh"
#include "cuda/tensor_map.hpp"

// Causal attention of many tokens on Hopper (Shah et al., FlashAttention-3, 2024). A block of
// threads stays on its multiprocessor and does one tile of queries after the other. One thread
// queues copies of queries, keys and values; two warpgroups multiply, 64 queries each. A warpgroup
// computes the scores of the next keys while it adds the values of the last ones, and its softmax
// runs while the other warpgroup has the tensor cores.

namespace tensor_pager::kernels::cuda {
namespace {

constexpr int kConsumers = 2;  // warpgroups that multiply
constexpr int kWarpgroup = 128;
constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
constexpr int kRows = 64;  // queries of a consumer
constexpr int kQueries = kConsumers * kRows;
constexpr int kStages = 2;

template <int kHeadDimension>
struct Tile {
  static constexpr int kHeadDim = kHeadDimension;
  static constexpr int kPanels = kHeadDim / kPanelColumns;
  // The sums of 256 dimensions leave registers for the scores of 64 keys.
  static constexpr int kKeys = kHeadDim <= 128 ? 128 : 64;

  static constexpr int kQueryPanel = kQueries * kPanelColumns * 2;  // bytes
  static constexpr int kKeyPanel = kKeys * kPanelColumns * 2;
  static constexpr int kQueryBytes = kPanels * kQueryPanel;
  static constexpr int kKeyBytes = kPanels * kKeyPanel;
  static constexpr int kSharedBytes = kQueryBytes + 2 * kStages * kKeyBytes;
};

struct HopperProblem {
  CUtensorMap queries, keys, values;
  AttentionProblem<__half, __half> p;
  int query_tiles;
};

// Eight bytes each, in shared memory. A panel that is `full` has been copied; one that is `empty`
// has been read by all warps that multiply.
struct Barriers {
  std::uint64_t queries_full, queries_empty;
  std::uint64_t keys_full[kStages], keys_empty[kStages];
  std::uint64_t values_full[kStages], values_empty[kStages];
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL  // what follows is for sm_90a only

// What a block of threads does next: all keys for some queries of a head.
struct Work {
  int head;
  int first;       // row of q and out
  int key_blocks;  // that the last of the queries sees
};

// The heaviest tiles first. In every second round the blocks of threads take their turns
// backwards, so that all have about the same to do.
template <class T>
__device__ Work work(const HopperProblem& a, int index) {
  const int tile = a.query_tiles - 1 - index / a.p.heads;
  const int first = tile * kQueries;
  const int last = min(first + kQueries, a.p.tokens) - 1;
  return {index % a.p.heads, first, (a.p.past + last) / T::kKeys + 1};
}
__device__ int work_index(int round) {
  const int blocks = static_cast<int>(gridDim.x);
  const int turn = static_cast<int>(blockIdx.x);
  return round * blocks + (round % 2 == 0 ? turn : blocks - 1 - turn);
}

// A stage of a ring, and the parity of the phase in which it is filled.
struct RingPlace {
  std::uint32_t stage = 0;
  std::uint32_t parity = 0;

  __device__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

// Addresses in shared memory.
struct Places {
  std::uint32_t queries, keys, values;
  std::uint32_t queries_full, queries_empty;
  std::uint32_t keys_full, keys_empty, values_full, values_empty;  // of stage 0
};

template <class T>
__device__ Places places_of(const char* tiles, const Barriers& b) {
  const std::uint32_t queries = shared_address(tiles);
  const std::uint32_t keys = queries + T::kQueryBytes;
  return {queries,
          keys,
          keys + kStages * T::kKeyBytes,
          shared_address(&b.queries_full),
          shared_address(&b.queries_empty),
          shared_address(b.keys_full),
          shared_address(b.keys_empty),
          shared_address(b.values_full),
          shared_address(b.values_empty)};
}

__device__ void init_barriers(const Places& s) {
  constexpr std::uint32_t kReaders = 4 * kConsumers;  // warps
  hopper::init_barrier(s.queries_full, 1);
  hopper::init_barrier(s.queries_empty, kReaders);
  for (std::uint32_t i = 0; i < kStages; ++i) {
    hopper::init_barrier(s.keys_full + 8 * i, 1);
    hopper::init_barrier(s.keys_empty + 8 * i, kReaders);
    hopper::init_barrier(s.values_full + 8 * i, 1);
    hopper::init_barrier(s.values_empty + 8 * i, kReaders);
  }
  hopper::publish_barriers();
}

// One thread's work: it queues copies as soon as there is room for them.
template <class T>
struct Producer {
  const HopperProblem& a;
  const Places& s;
  RingPlace key_place, value_place;

  __device__ void run() {
    const int count = a.query_tiles * a.p.heads;
    std::uint32_t queries_parity = 0;
    for (int round = 0;; ++round) {
      const int index = work_index(round);
      if (index >= count) {
        if (round * static_cast<int>(gridDim.x) >= count) return;
        continue;
      }
      const Work w = work<T>(a, index);
      const int column = w.head / (a.p.heads / a.p.kv_heads) * T::kHeadDim;
      hopper::wait(s.queries_empty, queries_parity ^ 1);
      queries_parity ^= 1;
      hopper::arrive_and_expect(s.queries_full, T::kQueryBytes);
      for (int i = 0; i < T::kPanels; ++i) {
        hopper::copy_panel(s.queries + i * T::kQueryPanel, a.queries, w.first,
                           w.head * T::kHeadDim + i * kPanelColumns, s.queries_full);
      }
      copy(a.keys, 0, column, s.keys, s.keys_full, s.keys_empty, key_place);
#pragma unroll 1
      for (int block = 1; block < w.key_blocks; ++block) {
        copy(a.keys, block, column, s.keys, s.keys_full, s.keys_empty, key_place);
        copy(a.values, block - 1, column, s.values, s.values_full, s.values_empty, value_place);
      }
      copy(a.values, w.key_blocks - 1, column, s.values, s.values_full, s.values_empty,
           value_place);
    }
  }

  __device__ void copy(const CUtensorMap& map, int block, int column, std::uint32_t stages,
                       std::uint32_t full, std::uint32_t empty, RingPlace& place) {
    full += 8 * place.stage;
    hopper::wait(empty + 8 * place.stage, place.parity ^ 1);
    hopper::arrive_and_expect(full, T::kKeyBytes);
    for (int i = 0; i < T::kPanels; ++i) {
      hopper::copy_panel(stages + place.stage * T::kKeyBytes + i * T::kKeyPanel, map,
                         block * T::kKeys, column + i * kPanelColumns, full);
    }
    place.advance();
  }
};

// A warpgroup that multiplies. Thread l of its warp w has rows 16 w + l / 4 and 8 further on, and
// of every eight columns 2 (l % 4) and the next: those are the two halves of its registers' fours.
template <class T>
struct Consumer {
  // Values are multiplied in groups of up to 128 dimensions.
  static constexpr int kGroup = T::kHeadDim <= 128 ? T::kHeadDim : 128;
  static constexpr int kGroups = T::kHeadDim / kGroup;

  const HopperProblem& a;
  const Places& s;
  const std::uint32_t number;  // 0 or 1
  const int lane;
  const int row;  // this thread's first, within the tile
  RingPlace key_place, value_place;

  float scores[T::kKeys / 2];
  std::uint32_t weights[T::kKeys / 16][4];  // of the block before, as halves
  float sums[kGroups][kGroup / 2];          // of weighted values
  float largest[2];
  float weight_sums[2];  // this thread's columns only, until the end
  float corrections[2];

  __device__ Consumer(const HopperProblem& problem, const Places& places, int warp)
      : a(problem),
        s(places),
        number(static_cast<std::uint32_t>(warp / 4 - 1)),
        lane(static_cast<int>(threadIdx.x) % 32),
        row((warp - 4) * 16 + lane / 4) {}

  __device__ __forceinline__ void run() {
    const int count = a.query_tiles * a.p.heads;
    std::uint32_t queries_parity = 0;
    if (number == 1) pass_turn();
    for (int round = 0; round * static_cast<int>(gridDim.x) < count; ++round) {
      const int index = work_index(round);
      if (index >= count) continue;
      const Work w = work<T>(a, index);
      hopper::wait(s.queries_full, queries_parity);
      queries_parity ^= 1;
      attend(w);
      store(w);
    }
    if (number == 0) wait_turn();  // nobody else takes the last one that was passed
  }

  // The two consumers take turns in queuing products, so that one's softmax falls into the time of
  // the other's products. They have the same number of turns.
  __device__ void wait_turn() const { hopper::wait_named(1 + number, kConsumers * kWarpgroup); }
  __device__ void pass_turn() const { hopper::pass_named(2 - number, kConsumers * kWarpgroup); }

  __device__ void release(std::uint32_t barrier) const {
    __syncwarp();
    if (lane == 0) hopper::arrive(barrier);
  }

  __device__ __forceinline__ void attend(const Work& w) {
    const int position = a.p.past + w.first + row;  // of this thread's first row
    // Every query of this consumer sees all of that many blocks.
    const int whole_blocks = (a.p.past + w.first + static_cast<int>(number) * kRows + 1) / T::kKeys;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      largest[half] = -INFINITY;
      weight_sums[half] = 0.0F;
    }
#pragma unroll
    for (auto& group : sums) {
#pragma unroll
      for (float& sum : group) sum = 0.0F;
    }

    hopper::wait(s.keys_full + 8 * key_place.stage, key_place.parity);
    queue_scores();
    hopper::wait_for_products<0>();
    hopper::touch(scores);
    release_keys();
    if (whole_blocks == 0) mask(position);
    soften();
    pack_weights();

    int block = 1;
    for (; block < min(whole_blocks, w.key_blocks); ++block) step<false>(0);
    for (; block < w.key_blocks; ++block) step<true>(position - block * T::kKeys);

    release(s.queries_empty);
    hopper::wait(s.values_full + 8 * value_place.stage, value_place.parity);
    queue_values();
    hopper::wait_for_products<0>();
    touch_sums();
    release_values();
  }

  // The scores and the softmax of a block of keys, and the values of the block before it.
  // `last_key` is the last of the block's keys that this thread's first row sees.
  template <bool kMasked>
  __device__ __forceinline__ void step(int last_key) {
    hopper::wait(s.keys_full + 8 * key_place.stage, key_place.parity);
    wait_turn();
    queue_scores();
    hopper::wait(s.values_full + 8 * value_place.stage, value_place.parity);
    queue_values();
    pass_turn();
    hopper::wait_for_products<1>();
    hopper::touch(scores);
    release_keys();
    if (kMasked) mask(last_key);
    soften();
    hopper::wait_for_products<0>();
    touch_sums();
    release_values();
    pack_weights();
    correct_sums();
  }

  // scores = queries x keys of the block.
  __device__ __forceinline__ void queue_scores() {
    const std::uint64_t queries =
        hopper::operand(s.queries + number * (kRows * kPanelColumns * 2), 0);
    const std::uint64_t keys = hopper::operand(s.keys + key_place.stage * T::kKeyBytes, 0);
    hopper::touch(scores);
    hopper::order_registers();
#pragma unroll
    for (int k = 0; k < T::kHeadDim / 16; ++k) {
      const std::uint64_t left = hopper::advance(queries, k / 4 * T::kQueryPanel + k % 4 * 32);
      const std::uint64_t right = hopper::advance(keys, k / 4 * T::kKeyPanel + k % 4 * 32);
      if (k == 0) {
        hopper::multiply<false>(scores, left, right);
      } else {
        hopper::multiply<true>(scores, left, right);
      }
    }
    hopper::commit_products();
  }

  // sums += weights x values of the block.
  __device__ __forceinline__ void queue_values() {
    const std::uint64_t values =
        hopper::operand(s.values + value_place.stage * T::kKeyBytes, T::kKeyPanel);
    touch_sums();
    hopper::order_registers();
#pragma unroll
    for (int k = 0; k < T::kKeys / 16; ++k) {
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        const int panel = group * kGroup / kPanelColumns;
        hopper::multiply_rows(
            sums[group], weights[k],
            hopper::advance(values, panel * T::kKeyPanel + k * 16 * kPanelColumns * 2));
      }
    }
    hopper::commit_products();
  }

  __device__ __forceinline__ void touch_sums() {
#pragma unroll
    for (auto& group : sums) hopper::touch(group);
  }
  __device__ void release_keys() {
    release(s.keys_empty + 8 * key_place.stage);
    key_place.advance();
  }
  __device__ void release_values() {
    release(s.values_empty + 8 * value_place.stage);
    value_place.advance();
  }

  // Scores of keys after the query's own position do not count.
  __device__ __forceinline__ void mask(int last_key) {
    const int last = last_key - 2 * (lane % 4);
#pragma unroll
    for (int i = 0; i < T::kKeys / 2; ++i) {
      const int key = i / 4 * 8 + i % 2 - i / 2 % 2 * 8;
      if (key > last) scores[i] = -INFINITY;
    }
  }

  // Scores become weights relative to the largest score so far. A block whose keys are all masked
  // for a query leaves its bits as they are.
  __device__ __forceinline__ void soften() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = largest[half];
#pragma unroll
      for (int i = 2 * half; i < T::kKeys / 2; i += 4)
        top = fmaxf(top, fmaxf(scores[i], scores[i + 1]));
      top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, 2));
      corrections[half] = exp2_fast((largest[half] - top) * a.p.scale);
      largest[half] = top;
      const float offset = top * a.p.scale;
      float sum = weight_sums[half] * corrections[half];
#pragma unroll
      for (int i = 2 * half; i < T::kKeys / 2; i += i % 2 == 0 ? 1 : 3) {
        scores[i] = exp2_fast(fmaf(scores[i], a.p.scale, -offset));
        sum += scores[i];
      }
      weight_sums[half] = sum;
    }
  }

  // The scores' layout is already that of a left operand.
  __device__ __forceinline__ void pack_weights() {
#pragma unroll
    for (int k = 0; k < T::kKeys / 16; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        weights[k][i] = pack_halves(scores[8 * k + 2 * i], scores[8 * k + 2 * i + 1]);
      }
    }
  }

  __device__ __forceinline__ void correct_sums() {
#pragma unroll
    for (auto& group : sums) {
#pragma unroll
      for (int i = 0; i < kGroup / 2; ++i) group[i] *= corrections[i / 2 % 2];
    }
  }

  // Four neighbouring threads exchange their parts of 32 columns of a row, so that each writes 16
  // bytes.
  __device__ __forceinline__ void store(const Work& w) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float weight = weight_sums[half];
      weight += __shfl_xor_sync(0xFFFFFFFFU, weight, 1);
      weight += __shfl_xor_sync(0xFFFFFFFFU, weight, 2);
      const float inverse = 1.0F / weight;
      const int to = w.first + row + 8 * half;
      __half* out = a.p.out + static_cast<std::size_t>(to) * a.p.out_stride + w.head * T::kHeadDim +
                    lane % 4 * 8;
#pragma unroll
      for (int column = 0; column < T::kHeadDim; column += 32) {
        const float* four = &sums[column / kGroup][column % kGroup / 2 + 2 * half];
        std::uint32_t words[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          words[i] = pack_halves(four[4 * i] * inverse, four[4 * i + 1] * inverse);
        }
        transpose(words);
        if (to < a.p.tokens) {
          *reinterpret_cast<uint4*>(out + column) = {words[0], words[1], words[2], words[3]};
        }
      }
    }
  }

  // Word j of the i-th of four neighbouring threads becomes word i of the j-th.
  __device__ __forceinline__ void transpose(std::uint32_t (&words)[4]) const {
#pragma unroll
    for (int distance = 1; distance <= 2; distance *= 2) {
      const bool upper = (lane & distance) != 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if ((i & distance) != 0) continue;
        std::uint32_t& low = words[i];
        std::uint32_t& high = words[i + distance];
        const std::uint32_t other = __shfl_xor_sync(0xFFFFFFFFU, upper ? low : high, distance);
        (upper ? low : high) = other;
      }
    }
  }
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    attention_hopper(const __grid_constant__ HopperProblem a) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) char tiles[];
  __shared__ Barriers barriers;
  const Places places = places_of<T>(tiles, barriers);
  // The same for a whole warp, which the compiler does not see otherwise.
  const int warp = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 32, 0);
  if (threadIdx.x == 0) {
    hopper::prefetch_map(a.queries);
    hopper::prefetch_map(a.keys);
    hopper::prefetch_map(a.values);
    init_barriers(places);
  }
  __syncthreads();
  // 65536 registers in all.
  if (warp < 4) {
    hopper::give_registers<24>();
    if (threadIdx.x == 0) Producer<T>{a, places, {}, {}}.run();
  } else {
    hopper::take_registers<240>();
    Consumer<T>(a, places, warp).run();
  }
#endif
}

int device_attribute(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  check(cudaGetDevice(&device), "cudaGetDevice", {});
  check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute", {});
  return value;
}

// Whether this device is a Hopper GPU, and whether the kernel was compiled for it: compiled for
// anything but sm_90a it is empty, and so has no barriers.
template <class T>
bool available() {
  if (device_attribute(cudaDevAttrComputeCapabilityMajor) != 9) return false;
  if (device_attribute(cudaDevAttrComputeCapabilityMinor) != 0) return false;
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, attention_hopper<T>), "cudaFuncGetAttributes", {});
  return attributes.sharedSizeBytes >= sizeof(Barriers);
}

template <class T>
bool launch(const AttentionProblem<__half, __half>& p, cudaStream_t stream) {
  if (!available<T>()) return false;
  const auto tokens = static_cast<std::size_t>(p.tokens);
  const auto positions = static_cast<std::size_t>(p.past) + tokens;
  const auto width = static_cast<std::size_t>(p.heads) * T::kHeadDim;
  const auto kv_width = static_cast<std::size_t>(p.kv_heads) * T::kHeadDim;
  // The maps end with the last position: what follows in the cache is never read.
  const HopperProblem problem{panel_map(p.q, tokens, width, p.q_stride, kQueries),
                              panel_map(p.keys, positions, kv_width, p.position_stride, T::kKeys),
                              panel_map(p.values, positions, kv_width, p.position_stride, T::kKeys),
                              p, static_cast<int>(blocks_for(tokens, kQueries))};
  check(cudaFuncSetAttribute(attention_hopper<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             T::kSharedBytes),
        "attention: cudaFuncSetAttribute", {T::kSharedBytes});
  const int blocks =
      std::min(device_attribute(cudaDevAttrMultiProcessorCount), problem.query_tiles * p.heads);
  attention_hopper<T>
      <<<static_cast<unsigned>(blocks), kThreads, T::kSharedBytes, stream>>>(problem);
  return true;
}

}  // namespace

bool launch_attention_hopper(const AttentionProblem<__half, __half>& p, std::size_t head_dim,
                             cudaStream_t stream) {
  switch (head_dim) {
    case 64:
      return launch<Tile<64>>(p, stream);
    case 128:
      return launch<Tile<128>>(p, stream);
    case 256:
      return launch<Tile<256>>(p, stream);
    default:
      return false;
  }
}

}  // namespace tensor_pager::kernels::cuda
