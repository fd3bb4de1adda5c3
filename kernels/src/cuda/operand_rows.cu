#include "cuda/launch.hpp"
#include "cuda/operand_rows.hpp"
#include "cuda/shapes.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;

[[maybe_unused]] __device__ void round_to(float v, __half& out) {
  out = __float2half_rn(v);
}
[[maybe_unused]] __device__ void round_to(float v, __nv_bfloat16& out) {
  out = __float2bfloat16_rn(v);
}

struct Rows {
  const float* x;
  std::size_t x_stride;
  unsigned cols;
  Operand* out;
  unsigned stride;  // a multiple of 8
  float* factors;
};

// Row times `scale` to operands, followed by zeros; returns the largest magnitude that this thread
// saw.
template <bool kFour>
__device__ float round_row(const Rows& p, float scale) {
  struct alignas(8) Four {
    Operand v[4];
  };
  const float* x = p.x + blockIdx.x * p.x_stride;
  Operand* out = p.out + std::size_t{blockIdx.x} * p.stride;
  float largest = 0.0F;
  for (unsigned i = threadIdx.x; i < p.stride / 4; i += kThreads) {
    float v[4] = {};
    if constexpr (kFour) {
      if (4 * i < p.cols) {
        const float4 four = reinterpret_cast<const float4*>(x)[i];
        v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
      }
    } else {
#pragma unroll
      for (unsigned e = 0; e < 4; ++e) v[e] = 4 * i + e < p.cols ? x[4 * i + e] : 0.0F;
    }
    Four rounded;
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) {
      largest = fmaxf(largest, fabsf(v[e]));
      round_to(v[e] * scale, rounded.v[e]);
    }
    reinterpret_cast<Four*>(out)[i] = rounded;
  }
  return largest;
}

// The largest of all threads' values.
__device__ float block_largest(float v) {
  __shared__ float warps[kThreads / 32];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFU, v, distance));
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
  __syncthreads();
  v = warps[0];
#pragma unroll
  for (unsigned i = 1; i < kThreads / 32; ++i) v = fmaxf(v, warps[i]);
  return v;
}

// Rows are first converted as they are, since nearly all can be; a row out of range is read again.
template <bool kFour>
__global__ void __launch_bounds__(kThreads) round_all(const Rows p) {
  float largest = round_row<kFour>(p, 1.0F);
  if (p.factors == nullptr) return;
  largest = block_largest(largest);
  float factor = 1.0F;
  const bool out_of_range = largest >= 32768.0F || (largest > 0.0F && largest < 0.00390625F);
  if (out_of_range && largest <= 3.0e38F) {
    unsigned exponent = __float_as_uint(largest) >> 23;
    exponent = exponent < 1 ? 1 : exponent > 253 ? 253 : exponent;
    factor = __uint_as_float(exponent << 23);
    round_row<kFour>(p, __uint_as_float((254 - exponent) << 23));  // each thread its own elements
  }
  if (threadIdx.x == 0) p.factors[blockIdx.x] = factor;
}

struct Scaling {
  float* y;
  std::size_t stride;
  unsigned cols;
  const float* factors;
  const float* bias;
};

__global__ void __launch_bounds__(kThreads) divide_all(const Scaling p) {
  const float factor = p.factors[blockIdx.x];
  if (factor == 1.0F) return;
  const float inverse = __uint_as_float((254U << 23) - __float_as_uint(factor));
  float* y = p.y + blockIdx.x * p.stride;
  for (unsigned i = threadIdx.x; i < p.cols; i += kThreads) y[i] *= inverse;
}

__global__ void __launch_bounds__(kThreads) finish_all(const Scaling p) {
  const float factor = p.factors == nullptr ? 1.0F : p.factors[blockIdx.x];
  if (factor == 1.0F && p.bias == nullptr) return;
  float* y = p.y + blockIdx.x * p.stride;
  for (unsigned i = threadIdx.x; i < p.cols; i += kThreads) {
    const float scaled = __fmul_rn(y[i], factor);
    y[i] = p.bias == nullptr ? scaled : __fadd_rn(scaled, p.bias[i]);
  }
}

Scaling scaling(const MatrixView& y, const float* factors, const float* bias) {
  return {y.data, y.stride, static_cast<unsigned>(y.cols), factors, bias};
}

}  // namespace

void round_rows(const ConstMatrixView& x, Operand* out, std::size_t stride, float* factors,
                cudaStream_t stream) {
  const Rows p{x.data, x.stride, static_cast<unsigned>(x.cols), out, static_cast<unsigned>(stride),
               factors};
  const auto grid = static_cast<unsigned>(x.rows);
  if (rows_of_float4(x)) {
    round_all<true><<<grid, kThreads, 0, stream>>>(p);
  } else {
    round_all<false><<<grid, kThreads, 0, stream>>>(p);
  }
  check_launch("round_rows", {x.rows, x.cols, stride});
}

void divide_rows(const MatrixView& y, const float* factors, cudaStream_t stream) {
  divide_all<<<static_cast<unsigned>(y.rows), kThreads, 0, stream>>>(scaling(y, factors, nullptr));
  check_launch("divide_rows", {y.rows, y.cols});
}

void finish_rows(const MatrixView& y, const float* factors, const float* bias,
                 cudaStream_t stream) {
  finish_all<<<static_cast<unsigned>(y.rows), kThreads, 0, stream>>>(scaling(y, factors, bias));
  check_launch("finish_rows", {y.rows, y.cols});
}

}  // namespace tensor_pager::kernels::cuda
