// SPDX-License-Identifier: Apache-2.0
#include "cuda/gemm_trial.hpp"
#include "cuda/launch.hpp"
#include "cuda/rounding.cuh"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kBlocks = 1024;

// The finaliser of MurmurHash3 (public domain).
__device__ std::uint32_t mix(std::uint32_t x) {
  x = (x ^ x >> 16) * 0x85EBCA6BU;
  x = (x ^ x >> 13) * 0xC2B2AE35U;
  return x ^ x >> 16;
}

__global__ void __launch_bounds__(kThreads) noise(Operand* out, std::size_t eights) {
  const std::size_t step = std::size_t{gridDim.x} * kThreads;
  for (std::size_t i = std::size_t{blockIdx.x} * kThreads + threadIdx.x; i < eights; i += step) {
    float v[8];
#pragma unroll
    for (unsigned e = 0; e < 8; ++e) {
      const auto bits = static_cast<int>(mix(static_cast<std::uint32_t>(8 * i + e)));
      v[e] = static_cast<float>(bits) * 0x1p-31F;
    }
    store_together<8>(out + 8 * i, v);
  }
}

__global__ void __launch_bounds__(kThreads)
    sum_up(const std::uint32_t* data, std::size_t rows, std::size_t words, std::size_t stride,
           std::uint64_t* sum) {
  std::uint64_t own = 0;
  for (std::size_t r = blockIdx.x; r < rows; r += gridDim.x) {
    for (std::size_t i = threadIdx.x; i < words; i += kThreads) {
      const auto place = static_cast<std::uint32_t>(r * words + i);
      own += mix(data[r * stride + i] ^ mix(place));
    }
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    own += __shfl_xor_sync(0xFFFFFFFFU, own, distance);
  }
  if (threadIdx.x % 32 == 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(own));
  }
}

}  // namespace

void fill_with_noise(Operand* out, std::size_t count, cudaStream_t stream) {
  noise<<<kBlocks, kThreads, 0, stream>>>(out, count / 8);
  check_launch("fill_with_noise", {count});
}

std::uint64_t checksum(const std::uint32_t* data, std::size_t rows, std::size_t words,
                       std::size_t stride, std::uint64_t* sum, cudaStream_t stream) {
  check(cudaMemsetAsync(sum, 0, sizeof *sum, stream), "checksum: Memset", {sizeof *sum});
  sum_up<<<kBlocks, kThreads, 0, stream>>>(data, rows, words, stride, sum);
  check_launch("checksum", {rows, words, stride});
  std::uint64_t result = 0;
  check(cudaMemcpyAsync(&result, sum, sizeof result, cudaMemcpyDeviceToHost, stream),
        "checksum: Memcpy", {sizeof result});
  check(cudaStreamSynchronize(stream), "checksum: StreamSynchronize", {});
  return result;
}

}  // namespace tensor_pager::kernels::cuda
