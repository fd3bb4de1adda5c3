// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>

#include <string>

#include "cuda/launch.hpp"
#include "cuda/low_bit.hpp"
#include "cuda/matvec.hpp"
#include "cuda/matvec_units.cuh"

namespace tensor_pager::kernels::cuda {
namespace {

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
__global__ void __launch_bounds__(kThreads) matvec_values(const MatvecArguments p) {
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

template <class T>
void run_values(const MatvecArguments& p, cudaStream_t stream) {
  const unsigned grid = blocks_for(p.rows, kRows);
  if (p.cols % 8 == 0 && aligned(p.w, 16) && aligned(p.x, 16)) {
    matvec_values<T, 8><<<grid, kThreads, 0, stream>>>(p);
  } else {
    matvec_values<T, 1><<<grid, kThreads, 0, stream>>>(p);
  }
}

void run(WeightType type, const MatvecArguments& p, cudaStream_t stream) {
  switch (type) {
    case WeightType::f32:
      return run_values<float>(p, stream);
    case WeightType::f16:
      return run_values<__half>(p, stream);
    case WeightType::bf16:
      return run_values<__nv_bfloat16>(p, stream);
    case WeightType::q4_0:
      return matvec_units<Q4_0>(p, stream);
    case WeightType::q4_1:
      return matvec_units<Q4_1>(p, stream);
    case WeightType::q5_0:
      return matvec_units<Q5_0>(p, stream);
    case WeightType::q5_1:
      return matvec_units<Q5_1>(p, stream);
    case WeightType::q8_0:
      return matvec_units<Q8_0>(p, stream);
    case WeightType::q2_k:
      return matvec_units<Q2K>(p, stream);
    case WeightType::q3_k:
      return matvec_units<Q3K>(p, stream);
    case WeightType::q4_k:
      return matvec_units<Q4K>(p, stream);
    case WeightType::q5_k:
      return matvec_units<Q5K>(p, stream);
    case WeightType::q6_k:
      return matvec_units<Q6K>(p, stream);
    case WeightType::iq4_nl:
      return matvec_units<Iq4Nl>(p, stream);
    case WeightType::iq4_xs:
      return matvec_units<Iq4Xs>(p, stream);
    case WeightType::iq2_xxs:
    case WeightType::iq2_xs:
    case WeightType::iq2_s:
    case WeightType::iq3_xxs:
    case WeightType::iq3_s:
    case WeightType::iq1_s:
    case WeightType::iq1_m:
    case WeightType::tq1_0:
    case WeightType::tq2_0:
    case WeightType::mxfp4:
    case WeightType::nvfp4:
      return matvec_low_bit(type, p, stream);
  }
  throw Error("cuda matmul: weight type " + std::to_string(static_cast<std::uint32_t>(type)) +
              " has no kernels");
}

}  // namespace

void matvec(const Weights& w, const float* x, float* y, const float* bias, bool accumulate,
            cudaStream_t stream) {
  const MatvecArguments p{reinterpret_cast<const std::uint8_t*>(w.data),
                          row_bytes(w.type, w.cols),
                          x,
                          y,
                          bias,
                          static_cast<unsigned>(w.rows),
                          static_cast<unsigned>(w.cols),
                          w.factor,
                          accumulate};
  run(w.type, p, stream);
  check_launch("matvec", {w.rows, w.cols});
}

}  // namespace tensor_pager::kernels::cuda
