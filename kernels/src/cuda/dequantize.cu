// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "cuda/dequantize_units.cuh"
#include "cuda/launch.hpp"
#include "cuda/low_bit.hpp"
#include "cuda/rounding.cuh"
#include "kernels/cuda/dequantize.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;

// A row of unquantised weights, and zeros up to the stride; four elements per thread.
template <class In, class Out>
__global__ void __launch_bounds__(kThreads)
    convert_rows(const In* __restrict__ in, Out* __restrict__ out, std::size_t cols,
                 std::size_t stride, std::size_t total) {
  struct alignas(4 * sizeof(Out)) Four {
    Out v[4];
  };
  const std::size_t i = (std::size_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (i >= total) return;
  const std::size_t row = i / stride;
  const std::size_t col = i - row * stride;
  const In* from = in + row * cols + col;
  Four four;
#pragma unroll
  for (std::size_t e = 0; e < 4; ++e)
    store_rounded(four.v + e, col + e < cols ? to_float(from[e]) : 0.0F);
  if (i + 4 <= total) {
    *reinterpret_cast<Four*>(out + i) = four;
  } else {
#pragma unroll
    for (std::size_t e = 0; e < 4; ++e) {
      if (i + e < total) out[i + e] = four.v[e];
    }
  }
}

template <class In, class Out>
void run_convert(const std::byte* in, Out* out, std::size_t rows, std::size_t cols,
                 std::size_t stride, cudaStream_t stream) {
  const std::size_t total = rows * stride;
  convert_rows<<<blocks_for(total, 4 * kThreads), kThreads, 0, stream>>>(
      reinterpret_cast<const In*>(in), out, cols, stride, total);
}

template <class Out>
void run(const Weights& w, Out* out, std::size_t stride, cudaStream_t stream) {
  const std::size_t elements = w.rows * w.cols;
  switch (w.type) {
    case WeightType::f32:
      return run_convert<float>(w.data, out, w.rows, w.cols, stride, stream);
    case WeightType::f16:
      return run_convert<__half>(w.data, out, w.rows, w.cols, stride, stream);
    case WeightType::bf16:
      return run_convert<__nv_bfloat16>(w.data, out, w.rows, w.cols, stride, stream);
    case WeightType::q4_0:
      return dequantize_units<Q4_0>(w.data, out, elements, stream);
    case WeightType::q4_1:
      return dequantize_units<Q4_1>(w.data, out, elements, stream);
    case WeightType::q5_0:
      return dequantize_units<Q5_0>(w.data, out, elements, stream);
    case WeightType::q5_1:
      return dequantize_units<Q5_1>(w.data, out, elements, stream);
    case WeightType::q8_0:
      return dequantize_units<Q8_0>(w.data, out, elements, stream);
    case WeightType::q2_k:
      return dequantize_units<Q2K>(w.data, out, elements, stream);
    case WeightType::q3_k:
      return dequantize_units<Q3K>(w.data, out, elements, stream);
    case WeightType::q4_k:
      return dequantize_units<Q4K>(w.data, out, elements, stream);
    case WeightType::q5_k:
      return dequantize_units<Q5K>(w.data, out, elements, stream);
    case WeightType::q6_k:
      return dequantize_units<Q6K>(w.data, out, elements, stream);
    case WeightType::iq4_nl:
      return dequantize_units<Iq4Nl>(w.data, out, elements, stream);
    case WeightType::iq4_xs:
      return dequantize_units<Iq4Xs>(w.data, out, elements, stream);
    default:
      return dequantize_low_bit(w.type, w.data, out, elements, stream);
  }
}

// What the address of blocks must be a multiple of. Those of MXFP4 have 17 bytes.
std::uintptr_t address_multiple(WeightType type) {
  if (type == WeightType::f32) return 4;
  return type == WeightType::mxfp4 ? 1 : 2;
}

template <class Out>
void run_checked(const Weights& w, Out* out, std::size_t stride, cudaStream_t stream) {
  static_cast<void>(row_bytes(w.type, w.cols));  // throws if they do not fill whole blocks
  const auto from = reinterpret_cast<std::uintptr_t>(w.data);
  const auto to = reinterpret_cast<std::uintptr_t>(out);
  if (from % address_multiple(w.type) != 0 || to % 16 != 0) {
    throw Error(
        "cuda dequantize: " + std::string(name(w.type)) + " blocks at address " +
        std::to_string(from) + " and output at " + std::to_string(to) +
        "; blocks must be at an even address (F32: a multiple of 4, MXFP4: any), output at a "
        "multiple of 16");
  }
  if (w.rows * w.cols == 0) return;
  run(w, out, stride, stream);
  check_launch("dequantize", {w.rows, w.cols, stride});
}

}  // namespace

void dequantize(WeightType type, const std::byte* blocks, float* out, std::size_t elements,
                cudaStream_t stream) {
  run_checked({type, blocks, 1, elements}, out, elements, stream);
}

void dequantize(WeightType type, const std::byte* blocks, __half* out, std::size_t elements,
                cudaStream_t stream) {
  run_checked({type, blocks, 1, elements}, out, elements, stream);
}

void dequantize_rows(const Weights& w, Operand* out, std::size_t stride, cudaStream_t stream) {
  if (stride != (w.cols + 7) / 8 * 8) {
    throw Error("cuda dequantize_rows: stride " + std::to_string(stride) + " for rows of " +
                std::to_string(w.cols) + "; it must be the next multiple of 8");
  }
  run_checked(w, out, stride, stream);
}

}  // namespace tensor_pager::kernels::cuda
