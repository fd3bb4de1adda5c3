// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cuda/launch.hpp"
#include "cuda/operand_rows.hpp"
#include "cuda/rounding.cuh"
#include "cuda/shapes.hpp"
#include "cuda/tensor_core.cuh"
#include "kernels/cuda/activation.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kMostThreads = 1024;

// The largest of all threads' values. A block has whole warps.
__device__ float block_largest(float v) {
  __shared__ float warps[kMostThreads / 32];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFU, v, distance));
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
  __syncthreads();
  v = warps[0];
  for (unsigned i = 1; i < blockDim.x / 32; ++i) v = fmaxf(v, warps[i]);
  return v;
}

// The power of two by which a row with this largest magnitude is divided.
__device__ float row_factor(float largest) {
  const bool out_of_range = largest >= 32768.0F || (largest > 0.0F && largest < 0.00390625F);
  if (!out_of_range || largest > 3.0e38F) return 1.0F;
  unsigned exponent = __float_as_uint(largest) >> 23;
  exponent = exponent < 1 ? 1 : exponent > 253 ? 253 : exponent;
  return __uint_as_float(exponent << 23);
}

__device__ float inverse_of_power(float factor) {
  return __uint_as_float((254U << 23) - __float_as_uint(factor));
}

struct Rows {
  const float* x;
  std::size_t x_stride;
  unsigned cols;
  Operand* out;
  std::size_t stride;
  unsigned out_cols;  // a multiple of 8
  float* factors;
};

// Row times `scale` to operands, followed by zeros; returns the largest magnitude that this thread
// saw.
template <bool kFour>
__device__ float round_row(const Rows& p, float scale) {
  const float* x = p.x + blockIdx.x * p.x_stride;
  Operand* out = p.out + blockIdx.x * p.stride;
  float largest = 0.0F;
  for (unsigned i = threadIdx.x; i < p.out_cols / 4; i += kThreads) {
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
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) {
      largest = fmaxf(largest, fabsf(v[e]));
      v[e] *= scale;
    }
    store_four(out + 4 * i, v);
  }
  return largest;
}

// Rows are first converted as they are, since nearly all can be; a row out of range is read again.
template <bool kFour>
__global__ void __launch_bounds__(kThreads) round_all(const Rows p) {
  float largest = round_row<kFour>(p, 1.0F);
  if (p.factors == nullptr) return;
  largest = block_largest(largest);
  const float factor = row_factor(largest);
  if (factor != 1.0F) round_row<kFour>(p, inverse_of_power(factor));  // each thread its own
  if (threadIdx.x == 0) p.factors[blockIdx.x] = factor;
}

struct Gated {
  const Operand* gate;
  const Operand* up;
  std::size_t stride;
  unsigned cols;
  Operand* out;
  std::size_t out_stride;
  unsigned out_cols;  // a multiple of 8
  float* factors;
};

struct alignas(16) Eight {
  Operand v[8];
};

__device__ Eight load_eight(const Operand* matrix, const Gated& p, unsigned col) {
  return *reinterpret_cast<const Eight*>(matrix + blockIdx.x * p.stride + col);
}

__device__ float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

// silu(gate) * up of eight columns, zeros behind the last one; the largest of their magnitudes and
// `largest`. A few instructions per element more, and memory would not be the limit.
__device__ float gate_eight(const Gated& p, const Eight& gate, const Eight& up, unsigned col,
                            float largest, float (&out)[8]) {
  constexpr float kUnscale = 1.0F / kProductScale;
  constexpr float kLog2E = 1.442695041F;
#pragma unroll
  for (unsigned e = 0; e < 8; ++e) {
    const float g = to_float(gate.v[e]);
    const float u = to_float(up.v[e]);
    const float sigmoid = reciprocal_fast(1.0F + exp2_fast(g * (-kUnscale * kLog2E)));
    out[e] = g * u * (kUnscale * kUnscale) * sigmoid;
  }
  if (col + 8 > p.cols) {
#pragma unroll
    for (unsigned e = 0; e < 8; ++e) out[e] = col + e < p.cols ? out[e] : 0.0F;
  }
#pragma unroll
  for (unsigned e = 0; e < 8; ++e) largest = fmaxf(largest, fabsf(out[e]));
  return largest;
}

__device__ void store_scaled(const Gated& p, unsigned col, float scale, float (&v)[8]) {
#pragma unroll
  for (unsigned e = 0; e < 8; ++e) v[e] *= scale;
  store_together<8>(p.out + blockIdx.x * p.out_stride + col, v);
}

// Eights of columns that a thread keeps in registers.
constexpr unsigned kHeld = 4;

// The factor must be known before the first element is rounded, and out may be gate: results wait
// in registers. Those of a row too long for that are computed twice.
__global__ void __launch_bounds__(kMostThreads) gate_all(const Gated p) {
  const unsigned step = 8 * blockDim.x;
  const unsigned own = 8 * threadIdx.x;
  Eight gate[kHeld];
  Eight up[kHeld];
#pragma unroll
  for (unsigned i = 0; i < kHeld; ++i) {
    if (own + i * step >= p.out_cols) continue;
    gate[i] = load_eight(p.gate, p, own + i * step);
    up[i] = load_eight(p.up, p, own + i * step);
  }
  float held[kHeld][8];
  float largest = 0.0F;
#pragma unroll
  for (unsigned i = 0; i < kHeld; ++i) {
    const unsigned col = own + i * step;
    if (col < p.out_cols) largest = gate_eight(p, gate[i], up[i], col, largest, held[i]);
  }
  float v[8];
  for (unsigned col = own + kHeld * step; col < p.out_cols; col += step) {
    largest = gate_eight(p, load_eight(p.gate, p, col), load_eight(p.up, p, col), col, largest, v);
  }
  const float factor = row_factor(block_largest(largest));
  const float inverse = inverse_of_power(factor);
#pragma unroll
  for (unsigned i = 0; i < kHeld; ++i) {
    if (own + i * step < p.out_cols) store_scaled(p, own + i * step, inverse, held[i]);
  }
  for (unsigned col = own + kHeld * step; col < p.out_cols; col += step) {
    gate_eight(p, load_eight(p.gate, p, col), load_eight(p.up, p, col), col, largest, v);
    store_scaled(p, col, inverse, v);
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

__global__ void __launch_bounds__(kThreads)
    add_bias_all(Operand* y, std::size_t stride, unsigned cols, const float* bias) {
  Operand* row = y + blockIdx.x * stride;
  for (unsigned i = threadIdx.x; i < cols; i += kThreads) {
    store_rounded(row + i, to_float(row[i]) + bias[i] * kProductScale);
  }
}

Scaling scaling(const MatrixView& y, const float* factors, const float* bias) {
  return {y.data, y.stride, static_cast<unsigned>(y.cols), factors, bias};
}

}  // namespace

void require_operand(const char* what, const OperandView& m, std::size_t rows, std::size_t cols) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(m.data) % 16 == 0 && m.stride % 8 == 0;
  if (m.rows == rows && m.cols == cols && m.stride >= operand_stride(cols) && aligned) return;
  throw Error(std::string(what) + " is [" + std::to_string(m.rows) + ", " + std::to_string(m.cols) +
              "] with stride " + std::to_string(m.stride) + ", but must be [" +
              std::to_string(rows) + ", " + std::to_string(cols) +
              "] with rows at multiples of 16 bytes");
}

void round_rows(const ConstMatrixView& x, const OperandView& out, cudaStream_t stream) {
  require_shape("cuda round_rows: x", x, x.rows, x.cols);
  require_operand("cuda round_rows: out", out, x.rows, x.cols);
  if (x.rows * x.cols == 0) return;
  const Rows p{x.data,     x.stride,   static_cast<unsigned>(x.cols),
               out.data,   out.stride, static_cast<unsigned>(operand_stride(x.cols)),
               out.factors};
  const auto grid = static_cast<unsigned>(x.rows);
  if (rows_of_float4(x)) {
    round_all<true><<<grid, kThreads, 0, stream>>>(p);
  } else {
    round_all<false><<<grid, kThreads, 0, stream>>>(p);
  }
  check_launch("round_rows", {x.rows, x.cols, out.stride});
}

void swiglu(const OperandView& gate, const OperandView& up, const OperandView& out,
            cudaStream_t stream) {
  require_operand("cuda swiglu: gate", gate, out.rows, out.cols);
  require_operand("cuda swiglu: up", up, out.rows, out.cols);
  require_operand("cuda swiglu: out", out, out.rows, out.cols);
  if (gate.stride != up.stride || out.factors == nullptr) {
    throw Error("cuda swiglu: rows of gate and up are " + std::to_string(gate.stride) + " and " +
                std::to_string(up.stride) +
                " elements apart, which must be equal, and the result must have factors");
  }
  if (out.rows * out.cols == 0) return;
  const Gated p{gate.data,
                up.data,
                gate.stride,
                static_cast<unsigned>(out.cols),
                out.data,
                out.stride,
                static_cast<unsigned>(operand_stride(out.cols)),
                out.factors};
  const unsigned warps = std::clamp(blocks_for(p.out_cols, 8 * kHeld * 32), 2U, kMostThreads / 32);
  gate_all<<<static_cast<unsigned>(out.rows), 32 * warps, 0, stream>>>(p);
  check_launch("swiglu", {out.rows, out.cols});
}

void add_bias(const OperandView& y, const float* bias, cudaStream_t stream) {
  if (y.rows * y.cols == 0) return;
  add_bias_all<<<static_cast<unsigned>(y.rows), kThreads, 0, stream>>>(
      y.data, y.stride, static_cast<unsigned>(y.cols), bias);
  check_launch("add_bias", {y.rows, y.cols});
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
