#include <cuda_bf16.h>

#include <string>

#include "cuda/formats.cuh"
#include "cuda/launch.hpp"
#include "cuda/matvec.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

// A block's threads share the columns of kRows rows: inputs are read once for all of them, and even
// a matrix of few rows keeps many loads under way.
constexpr unsigned kThreads = 128;
constexpr unsigned kRows = 4;

struct Product {
  const std::uint8_t* w;
  std::size_t row_bytes;
  const float* x;
  float* y;
  const float* bias;
  unsigned rows, cols;
  bool accumulate;
};

// Adds up the threads' sums in a fixed order and writes them. All threads take part.
__device__ void finish(const Product& p, unsigned first_row, float (&sums)[kRows]) {
  __shared__ float warps[kThreads / 32][kRows];
#pragma unroll
  for (unsigned r = 0; r < kRows; ++r) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      sums[r] += __shfl_xor_sync(0xFFFFFFFFU, sums[r], distance);
    }
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32][r] = sums[r];
  }
  __syncthreads();
  const unsigned row = first_row + threadIdx.x;
  if (threadIdx.x >= kRows || row >= p.rows) return;
  float total = 0.0F;
#pragma unroll
  for (unsigned i = 0; i < kThreads / 32; ++i) total += warps[i][threadIdx.x];
  if (p.bias != nullptr) total += p.bias[row];
  p.y[row] = p.accumulate ? p.y[row] + total : total;
}

// The row of the group, or the last one again where there are no more.
__device__ const std::uint8_t* row_at(const Product& p, unsigned row) {
  return p.w + (row < p.rows ? row : p.rows - 1) * p.row_bytes;
}

__device__ void load_eight(const float* x, float (&v)[8]) {
  const float4 a = reinterpret_cast<const float4*>(x)[0];
  const float4 b = reinterpret_cast<const float4*>(x)[1];
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
  v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}

template <class Format, int kAlign>
__global__ void __launch_bounds__(kThreads) matvec_units(const Product p) {
  constexpr unsigned kUnits = Format::kElements / 16;
  const unsigned first_row = blockIdx.x * kRows;
  float sums[kRows] = {};
  for (unsigned i = threadIdx.x; i < p.cols / 16; i += kThreads) {
    const unsigned block = i / kUnits;
    const int unit = static_cast<int>(i % kUnits);
    const float* x = p.x + block * Format::kElements + Format::first(unit);
    float inputs[2][8];
    load_eight(x, inputs[0]);
    load_eight(x + Format::kSecond, inputs[1]);
    float input_sums[2] = {};
    if constexpr (Format::kAffine) {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        input_sums[0] += inputs[0][e];
        input_sums[1] += inputs[1][e];
      }
    }
#pragma unroll
    for (unsigned r = 0; r < kRows; ++r) {
      Run runs[2];
      Format::template decode<kAlign>(
          row_at(p, first_row + r) + std::size_t{block} * Format::kBytes, unit, runs);
#pragma unroll
      for (int run = 0; run < 2; ++run) {
        float dot = 0.0F;
#pragma unroll
        for (int e = 0; e < 8; ++e) dot += runs[run].codes[e] * inputs[run][e];
        sums[r] += runs[run].scale * dot;
        if constexpr (Format::kAffine) sums[r] += runs[run].offset * input_sums[run];
      }
    }
  }
  finish(p, first_row, sums);
}

__device__ float to_float(float v) {
  return v;
}
__device__ float to_float(__half v) {
  return __half2float(v);
}
__device__ float to_float(__nv_bfloat16 v) {
  return __bfloat162float(v);
}

// Unquantised weights; kVector of them at a time.
template <class T, unsigned kVector>
__global__ void __launch_bounds__(kThreads) matvec_values(const Product p) {
  struct alignas(kVector * sizeof(T) <= 16 ? kVector * sizeof(T) : 16) Weights {
    T v[kVector];
  };
  struct alignas(kVector == 1 ? 4 : 16) Inputs {
    float v[kVector];
  };
  const unsigned first_row = blockIdx.x * kRows;
  float sums[kRows] = {};
  for (unsigned i = threadIdx.x; i < p.cols / kVector; i += kThreads) {
    const Inputs inputs = reinterpret_cast<const Inputs*>(p.x)[i];
#pragma unroll
    for (unsigned r = 0; r < kRows; ++r) {
      const Weights weights = reinterpret_cast<const Weights*>(row_at(p, first_row + r))[i];
#pragma unroll
      for (unsigned e = 0; e < kVector; ++e) sums[r] += to_float(weights.v[e]) * inputs.v[e];
    }
  }
  finish(p, first_row, sums);
}

bool aligned(const void* p, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}

template <class T>
void run_values(const Product& p, cudaStream_t stream) {
  const unsigned grid = blocks_for(p.rows, kRows);
  if (p.cols % 8 == 0 && aligned(p.w, 16) && aligned(p.x, 16)) {
    matvec_values<T, 8><<<grid, kThreads, 0, stream>>>(p);
  } else {
    matvec_values<T, 1><<<grid, kThreads, 0, stream>>>(p);
  }
}

template <class Format>
void run_units(const Product& p, cudaStream_t stream) {
  if (!aligned(p.x, 16)) {
    throw Error("cuda matmul: the inputs of a quantised product must begin at a multiple of 16");
  }
  const unsigned grid = blocks_for(p.rows, kRows);
  constexpr int kAlign = kBlockAlignment<Format>;
  if (aligned(p.w, kAlign)) {
    matvec_units<Format, kAlign><<<grid, kThreads, 0, stream>>>(p);
  } else {
    matvec_units<Format, 2><<<grid, kThreads, 0, stream>>>(p);
  }
}

void run(WeightType type, const Product& p, cudaStream_t stream) {
  switch (type) {
    case WeightType::f32:
      return run_values<float>(p, stream);
    case WeightType::f16:
      return run_values<__half>(p, stream);
    case WeightType::bf16:
      return run_values<__nv_bfloat16>(p, stream);
    case WeightType::q4_0:
      return run_units<Q4_0>(p, stream);
    case WeightType::q4_1:
      return run_units<Q4_1>(p, stream);
    case WeightType::q5_0:
      return run_units<Q5_0>(p, stream);
    case WeightType::q5_1:
      return run_units<Q5_1>(p, stream);
    case WeightType::q8_0:
      return run_units<Q8_0>(p, stream);
    case WeightType::q2_k:
      return run_units<Q2K>(p, stream);
    case WeightType::q3_k:
      return run_units<Q3K>(p, stream);
    case WeightType::q4_k:
      return run_units<Q4K>(p, stream);
    case WeightType::q5_k:
      return run_units<Q5K>(p, stream);
    case WeightType::q6_k:
      return run_units<Q6K>(p, stream);
    case WeightType::iq4_nl:
      return run_units<Iq4Nl>(p, stream);
    case WeightType::iq4_xs:
      return run_units<Iq4Xs>(p, stream);
  }
  throw Error("cuda matmul: weight type " + std::to_string(static_cast<std::uint32_t>(type)) +
              " has no kernels");
}

}  // namespace

void matvec(const Weights& w, const float* x, float* y, const float* bias, bool accumulate,
            cudaStream_t stream) {
  const Product p{reinterpret_cast<const std::uint8_t*>(w.data),
                  row_bytes(w.type, w.cols),
                  x,
                  y,
                  bias,
                  static_cast<unsigned>(w.rows),
                  static_cast<unsigned>(w.cols),
                  accumulate};
  run(w.type, p, stream);
  check_launch("matvec", {w.rows, w.cols});
}

}  // namespace tensor_pager::kernels::cuda
