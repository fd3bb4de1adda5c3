// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cuda/digits.cuh"
#include "cuda/launch.hpp"
#include "cuda/launch_early.cuh"
#include "cuda/operand_rows.hpp"
#include "cuda/rounding.cuh"
#include "cuda/shapes.hpp"
#include "kernels/cuda/norm.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

// Rows up to this length are a warp's work: the heads of a model that normalises them.
constexpr std::size_t kWarpRow = 512;
constexpr unsigned kWarpsPerBlock = 4;
constexpr unsigned kRowThreads = 512;
constexpr unsigned kMostThreads = 1024;
// Fours of columns that a thread keeps in registers from the sum to the result.
constexpr unsigned kHeld = 4;

template <class Out>
struct Norm {
  const float* x;
  const float* weight;
  Out* out;
  std::size_t x_stride, out_stride;
  std::size_t rows;
  unsigned cols;
  unsigned out_cols;  // what follows cols becomes zeros
  float epsilon;
  NotFinite not_finite;
};

__device__ float warp_sum(float v) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    v += __shfl_xor_sync(0xFFFFFFFFU, v, distance);
  }
  return v;
}

__device__ float square(const float4& v) {
  return (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
}

template <class Out>
__device__ float row_scale(const Norm<Out>& p, float sum) {
  // No atomic: whoever writes at the same time writes the same stage.
  volatile unsigned* const first = p.not_finite.first;
  if (first != nullptr && !isfinite(sum) && *first > p.not_finite.stage) {
    *first = p.not_finite.stage;
  }
  return 1.0F / sqrtf(sum / static_cast<float>(p.cols) + p.epsilon);
}

template <class Out>
__device__ void store_scaled(Out* out, const float4& v, float scale, const float4& weight) {
  const float result[4] = {v.x * scale * weight.x, v.y * scale * weight.y, v.z * scale * weight.z,
                           v.w * scale * weight.w};
  store_four(out, result);
}

// Sum of squares of the columns that this of `threads` threads looks at.
template <bool kFour>
__device__ float squares(const float* x, unsigned cols, unsigned thread, unsigned threads) {
  float sum = 0.0F;
  if constexpr (kFour) {
    for (unsigned i = thread; i < cols / 4; i += threads) {
      sum += square(reinterpret_cast<const float4*>(x)[i]);
    }
  } else {
    for (unsigned i = thread; i < cols; i += threads) sum += x[i] * x[i];
  }
  return sum;
}

template <bool kFour, class Out>
__device__ void scale_row(const Norm<Out>& p, std::size_t row, float sum, unsigned thread,
                          unsigned threads) {
  const float scale = row_scale(p, sum);
  const float* x = p.x + row * p.x_stride;
  Out* out = p.out + row * p.out_stride;
  if constexpr (kFour) {
    for (unsigned i = thread; i < p.out_cols / 4; i += threads) {
      const bool zeros = 4 * i >= p.cols;
      const float4 v = zeros ? float4{} : reinterpret_cast<const float4*>(x)[i];
      const float4 w = zeros ? float4{} : reinterpret_cast<const float4*>(p.weight)[i];
      store_scaled(out + 4 * i, v, scale, w);
    }
  } else {
    for (unsigned i = thread; i < p.out_cols; i += threads) {
      store_rounded(out + i, i < p.cols ? x[i] * scale * p.weight[i] : 0.0F);
    }
  }
}

// A whole warp returns together, so the shuffles see all its threads.
template <bool kFour, class Out>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) norm_by_warp(const Norm<Out> p) {
  const std::size_t row = std::size_t{blockIdx.x} * kWarpsPerBlock + threadIdx.x / 32;
  if (row >= p.rows) return;
  const unsigned lane = threadIdx.x % 32;
  const float sum = warp_sum(squares<kFour>(p.x + row * p.x_stride, p.cols, lane, 32));
  scale_row<kFour>(p, row, sum, lane, 32);
}

// All threads' values, in a fixed order.
__device__ float block_sum(float own) {
  __shared__ float warps[kMostThreads / 32];
  own = warp_sum(own);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = own;
  __syncthreads();
  float sum = 0.0F;
  for (unsigned i = 0; i < blockDim.x / 32; ++i) sum += warps[i];
  return sum;
}

template <class Out>
__global__ void __launch_bounds__(kRowThreads) norm_by_block(const Norm<Out> p) {
  const std::size_t row = blockIdx.x;
  const float sum =
      block_sum(squares<false>(p.x + row * p.x_stride, p.cols, threadIdx.x, kRowThreads));
  scale_row<false>(p, row, sum, threadIdx.x, kRowThreads);
}

// The same for rows of a multiple of four columns.
template <class Out>
__global__ void __launch_bounds__(kMostThreads) norm_by_block_of_fours(const Norm<Out> p) {
  const auto* x = reinterpret_cast<const float4*>(p.x + blockIdx.x * p.x_stride);
  const auto* weight = reinterpret_cast<const float4*>(p.weight);
  Out* out = p.out + blockIdx.x * p.out_stride;
  const unsigned fours = p.cols / 4;
  const unsigned held_fours = kHeld * blockDim.x;
  float4 held[kHeld];
#pragma unroll
  for (unsigned k = 0; k < kHeld; ++k) {
    const unsigned i = threadIdx.x + k * blockDim.x;
    held[k] = i < fours ? x[i] : float4{};
  }
  float own = 0.0F;
#pragma unroll
  for (unsigned k = 0; k < kHeld; ++k) own += square(held[k]);
  for (unsigned i = threadIdx.x + held_fours; i < fours; i += blockDim.x) own += square(x[i]);
  const float scale = row_scale(p, block_sum(own));
#pragma unroll
  for (unsigned k = 0; k < kHeld; ++k) {
    const unsigned i = threadIdx.x + k * blockDim.x;
    if (i < fours) store_scaled(out + 4 * i, held[k], scale, weight[i]);
  }
  for (unsigned i = threadIdx.x + held_fours; i < fours; i += blockDim.x) {
    store_scaled(out + 4 * i, x[i], scale, weight[i]);
  }
  for (unsigned i = p.cols + threadIdx.x; i < p.out_cols; i += blockDim.x) {
    store_rounded(out + i, 0.0F);
  }
}

// Eight columns of a thread; what is beyond the end of the row is zero.
template <bool kFour>
__device__ void load_eight(const float* row, unsigned first, unsigned cols, float (&v)[8]) {
  if (kFour && first + 8 <= cols) {
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
      const float4 four = *reinterpret_cast<const float4*>(row + first + 4 * i);
      v[4 * i] = four.x, v[4 * i + 1] = four.y, v[4 * i + 2] = four.z, v[4 * i + 3] = four.w;
    }
    return;
  }
#pragma unroll
  for (unsigned e = 0; e < 8; ++e) v[e] = first + e < cols ? row[first + e] : 0.0F;
}

// To digits, whose rows are few: a block for each, a warp for each group of columns, or for every
// kMostThreads / 32 groups. `out` is its records. The first groups stay in registers.
template <bool kFour>
__global__ void __launch_bounds__(kMostThreads) norm_to_digits(const Norm<DigitRecord> p) {
  begin_after_others();
  const unsigned lane = threadIdx.x % 32;
  const unsigned groups = (p.cols + kGroup - 1) / kGroup;
  const unsigned own_col = threadIdx.x / 32 * kGroup + 8 * lane;
  const float* x = p.x + blockIdx.x * p.x_stride;
  float own[8];
  float own_weight[8];
  load_eight<kFour>(x, own_col, p.cols, own);
  load_eight<kFour>(p.weight, own_col, p.cols, own_weight);
  float sum = 0.0F;
#pragma unroll
  for (const float v : own) sum += v * v;
  for (unsigned col = own_col + 8 * blockDim.x; col < p.cols; col += 8 * blockDim.x) {
    float v[8];
    load_eight<kFour>(x, col, p.cols, v);
#pragma unroll
    for (const float one : v) sum += one * one;
  }
  const float scale = row_scale(p, block_sum(sum));
  DigitRecord* out = p.out + std::size_t{blockIdx.x} * groups;
  for (unsigned group = threadIdx.x / 32; group < groups; group += blockDim.x / 32) {
    const unsigned col = group * kGroup + 8 * lane;
    if (col != own_col) {
      load_eight<kFour>(x, col, p.cols, own);
      load_eight<kFour>(p.weight, col, p.cols, own_weight);
    }
#pragma unroll
    for (unsigned e = 0; e < 8; ++e) own[e] *= scale * own_weight[e];
    store_digits(own, out + group, lane);
  }
}

template <bool kFour, class Out>
void run(const Norm<Out>& p, cudaStream_t stream) {
  if (p.cols <= kWarpRow) {
    norm_by_warp<kFour><<<blocks_for(p.rows, kWarpsPerBlock), 32 * kWarpsPerBlock, 0, stream>>>(p);
  } else if constexpr (kFour) {
    const unsigned warps = std::clamp(blocks_for(p.cols, 4 * kHeld * 32), 1U, kMostThreads / 32);
    norm_by_block_of_fours<<<static_cast<unsigned>(p.rows), 32 * warps, 0, stream>>>(p);
  } else {
    norm_by_block<<<static_cast<unsigned>(p.rows), kRowThreads, 0, stream>>>(p);
  }
}

template <class Out>
void run_checked(const ConstMatrixView& x, const Norm<Out>& p, bool aligned_out,
                 cudaStream_t stream) {
  if (x.rows * x.cols == 0) return;
  // The order of the sum must depend on the number of columns only, so a row of a multiple of four
  // columns that is not aligned is an error of the caller.
  const bool aligned_weight = reinterpret_cast<std::uintptr_t>(p.weight) % 16 == 0;
  if (x.cols % 4 != 0) {
    run<false>(p, stream);
  } else if (rows_of_float4(x) && aligned_out && aligned_weight) {
    run<true>(p, stream);
  } else {
    throw Error("cuda rms_norm: rows of " + std::to_string(x.cols) +
                " columns must begin at multiples of 16 bytes; strides are " +
                std::to_string(x.stride) + " and " + std::to_string(p.out_stride));
  }
  check_launch("rms_norm", {x.rows, x.cols});
}

}  // namespace

void rms_norm(const ConstMatrixView& x, const float* weight, float epsilon, const MatrixView& out,
              cudaStream_t stream, const NotFinite& not_finite) {
  require_shape("cuda rms_norm: x", x, x.rows, x.cols);
  require_shape("cuda rms_norm: out", out, x.rows, x.cols);
  const auto cols = static_cast<unsigned>(x.cols);
  run_checked(x,
              Norm<float>{x.data, weight, out.data, x.stride, out.stride, x.rows, cols, cols,
                          epsilon, not_finite},
              rows_of_float4(out), stream);
}

void rms_norm(const ConstMatrixView& x, const float* weight, float epsilon, const OperandView& out,
              cudaStream_t stream, const NotFinite& not_finite) {
  require_shape("cuda rms_norm: x", x, x.rows, x.cols);
  require_operand("cuda rms_norm: out", out, x.rows, x.cols);
  const auto cols = static_cast<unsigned>(x.cols);
  const auto stride = static_cast<unsigned>(out.stride);
  run_checked(x,
              Norm<Operand>{x.data, weight, out.data, x.stride, out.stride, x.rows, cols, stride,
                            epsilon, not_finite},
              true, stream);
}

void rms_norm(const ConstMatrixView& x, const float* weight, float epsilon, const DigitsView& out,
              cudaStream_t stream, const NotFinite& not_finite) {
  require_shape("cuda rms_norm: x", x, out.rows, out.cols);
  if (x.rows * x.cols == 0) return;
  const auto cols = static_cast<unsigned>(x.cols);
  const Norm<DigitRecord> p{
      x.data,  weight,    reinterpret_cast<DigitRecord*>(out.data), x.stride, 0, x.rows, cols, cols,
      epsilon, not_finite};
  const unsigned warps = std::clamp(blocks_for(cols, kGroup), 1U, kMostThreads / 32);
  const bool fours = rows_of_float4(x) && reinterpret_cast<std::uintptr_t>(weight) % 16 == 0;
  launch_early(fours ? norm_to_digits<true> : norm_to_digits<false>,
               {static_cast<unsigned>(x.rows), 32 * warps, 0, stream}, p);
  check_launch("rms_norm", {x.rows, x.cols});
}

}  // namespace tensor_pager::kernels::cuda
