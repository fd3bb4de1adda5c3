// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// Floats to what a matrix holds, rounded to nearest even.

namespace tensor_pager::kernels::cuda {

[[maybe_unused]] __device__ inline void store_rounded(float* out, float v) {
  *out = v;
}
[[maybe_unused]] __device__ inline void store_rounded(__half* out, float v) {
  *out = __float2half_rn(v);
}
[[maybe_unused]] __device__ inline void store_rounded(__nv_bfloat16* out, float v) {
  *out = __float2bfloat16_rn(v);
}

[[maybe_unused]] __device__ inline float to_float(float v) {
  return v;
}
[[maybe_unused]] __device__ inline float to_float(__half v) {
  return __half2float(v);
}
[[maybe_unused]] __device__ inline float to_float(__nv_bfloat16 v) {
  return __bfloat162float(v);
}

/// `kCount` elements at a multiple of their size, written together.
template <int kCount, class Out>
__device__ inline void store_together(Out* out, const float (&v)[kCount]) {
  struct alignas(kCount * sizeof(Out)) Together {
    Out v[kCount];
  };
  Together rounded;
#pragma unroll
  for (int i = 0; i < kCount; ++i) store_rounded(rounded.v + i, v[i]);
  *reinterpret_cast<Together*>(out) = rounded;
}

template <class Out>
__device__ inline void store_four(Out* out, const float (&v)[4]) {
  store_together<4>(out, v);
}

}  // namespace tensor_pager::kernels::cuda
