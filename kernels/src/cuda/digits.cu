// SPDX-License-Identifier: Apache-2.0
#include "cuda/digits.cuh"
#include "cuda/launch.hpp"
#include "cuda/launch_early.cuh"
#include "cuda/shapes.hpp"
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/digits.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kWarps = 4;

struct Split {
  const float* a;
  const float* b;
  std::size_t a_stride, b_stride;
  DigitRecord* records;
  unsigned cols;
};

struct Identity {
  static constexpr bool kTwo = false;
  __device__ float operator()(float a, float /*b*/) const { return a; }
};
struct Swiglu {
  static constexpr bool kTwo = true;
  __device__ float operator()(float gate, float up) const {
    return gate / (1.0F + expf(-gate)) * up;
  }
};

// A warp for each group: it has read all of it before it writes.
template <class Function>
__global__ void __launch_bounds__(32 * kWarps) split(const Split p) {
  begin_after_others();
  const unsigned lane = threadIdx.x % 32;
  const unsigned groups = (p.cols + kGroup - 1) / kGroup;
  const unsigned group = blockIdx.x * kWarps + threadIdx.x / 32;
  if (group >= groups) return;
  const float* a = p.a + blockIdx.y * p.a_stride;
  const float* b = p.b + blockIdx.y * p.b_stride;
  float v[8];
#pragma unroll
  for (unsigned e = 0; e < 8; ++e) {
    const unsigned col = group * kGroup + 8 * lane + e;
    const float second = Function::kTwo && col < p.cols ? b[col] : 0.0F;
    v[e] = col < p.cols ? Function{}(a[col], second) : 0.0F;
  }
  store_digits(v, p.records + std::size_t{blockIdx.y} * groups + group, lane);
}

template <class Function>
void run(const char* what, const ConstMatrixView& a, const ConstMatrixView& b,
         const DigitsView& out, cudaStream_t stream) {
  if (out.rows * out.cols == 0) return;
  const Split p{a.data,
                b.data,
                a.stride,
                b.stride,
                reinterpret_cast<DigitRecord*>(out.data),
                static_cast<unsigned>(out.cols)};
  const dim3 grid(blocks_for(blocks_for(out.cols, kGroup), kWarps),
                  static_cast<unsigned>(out.rows));
  launch_early(split<Function>, {grid, 32 * kWarps, 0, stream}, p);
  check_launch(what, {out.rows, out.cols});
}

}  // namespace

void split_digits(const ConstMatrixView& x, const DigitsView& out, cudaStream_t stream) {
  require_shape("cuda split_digits: x", x, out.rows, out.cols);
  run<Identity>("split_digits", x, x, out, stream);
}

void swiglu(const ConstMatrixView& gate, const ConstMatrixView& up, const DigitsView& out,
            cudaStream_t stream) {
  require_shape("cuda swiglu: gate", gate, out.rows, out.cols);
  require_shape("cuda swiglu: up", up, out.rows, out.cols);
  run<Swiglu>("swiglu", gate, up, out, stream);
}

}  // namespace tensor_pager::kernels::cuda
