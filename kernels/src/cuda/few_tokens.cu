// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>

#include <algorithm>
#include <optional>
#include <string>

#include "cuda/device_facts.hpp"
#include "cuda/few_tokens.cuh"
#include "cuda/low_bit.hpp"
#include "cuda/rounding.cuh"
#include "cuda/shapes.hpp"
#include "cuda/tensor_map.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

// Unquantised weights, kVector of them at a time: in float32, with one token after the other. A
// block's threads share the columns of kValueRows rows, so that inputs are put together once for
// all of them.
constexpr unsigned kValueThreads = 128;
constexpr unsigned kValueRows = 4;

__device__ const std::uint8_t* row_at(const FewTokens& p, unsigned row) {
  const FewTokensMatrix& m = p.matrices[0];
  return m.w + std::size_t{row < m.rows ? row : m.rows - 1} * p.row_bytes;
}

bool aligned(const void* p, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}

// Adds up the threads' sums in a fixed order and writes them. All threads take part.
__device__ void finish_values(const FewTokens& p, unsigned token, float (&sums)[kValueRows]) {
  __shared__ float warps[kValueThreads / 32][kValueRows];
#pragma unroll
  for (unsigned r = 0; r < kValueRows; ++r) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      sums[r] += __shfl_xor_sync(0xFFFFFFFFU, sums[r], distance);
    }
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32][r] = sums[r];
  }
  __syncthreads();
  const unsigned row = blockIdx.x * kValueRows + threadIdx.x;
  const FewTokensMatrix& m = p.matrices[0];
  if (threadIdx.x < kValueRows && row < m.rows) {
    float total = 0.0F;
#pragma unroll
    for (unsigned i = 0; i < kValueThreads / 32; ++i) total += warps[i][threadIdx.x];
    total *= m.factor;
    if (m.bias != nullptr) total += m.bias[row];
    float* y = m.y + token * m.y_stride + row;
    *y = m.accumulate ? *y + total : total;
  }
  __syncthreads();
}

template <class T, unsigned kVector>
__global__ void __launch_bounds__(kValueThreads) multiply_values(const FewTokens p) {
  begin_after_others();
  struct alignas(kVector * sizeof(T) <= 16 ? kVector * sizeof(T) : 16) Vector {
    T v[kVector];
  };
  const unsigned first_row = blockIdx.x * kValueRows;
  const unsigned records = (p.cols + kGroup - 1) / kGroup;
  for (unsigned token = 0; token < p.tokens; ++token) {
    const auto* x = reinterpret_cast<const DigitRecord*>(p.x) + token * records;
    float sums[kValueRows] = {};
    for (unsigned i = threadIdx.x; i < p.cols / kVector; i += kValueThreads) {
      float inputs[kVector];
#pragma unroll
      for (unsigned e = 0; e < kVector; ++e) {
        const unsigned col = i * kVector + e;
        inputs[e] = digits_value(x[col / kGroup], col % kGroup);
      }
#pragma unroll
      for (unsigned r = 0; r < kValueRows; ++r) {
        const Vector weights = reinterpret_cast<const Vector*>(row_at(p, first_row + r))[i];
#pragma unroll
        for (unsigned e = 0; e < kVector; ++e) sums[r] += to_float(weights.v[e]) * inputs[e];
      }
    }
    finish_values(p, token, sums);
  }
}

template <class T>
void multiply_values(const FewTokens& all, cudaStream_t stream) {
  for (unsigned i = 0; i < all.count; ++i) {
    FewTokens p = all;
    p.matrices[0] = all.matrices[i];
    const unsigned grid = blocks_for(p.matrices[0].rows, kValueRows);
    if (p.cols % 8 == 0 && aligned(p.matrices[0].w, 16)) {
      launch_early(multiply_values<T, 8>, {grid, kValueThreads, 0, stream}, p);
    } else {
      launch_early(multiply_values<T, 1>, {grid, kValueThreads, 0, stream}, p);
    }
  }
}

void run(WeightType type, const FewTokens& p, cudaStream_t stream) {
  const unsigned multiprocessors = facts_of_device().multiprocessors;
  switch (type) {
    case WeightType::f32:
      return multiply_values<float>(p, stream);
    case WeightType::f16:
      return multiply_values<__half>(p, stream);
    case WeightType::bf16:
      return multiply_values<__nv_bfloat16>(p, stream);
    default:
      if (multiply_few_blocks_of_32(type, p, multiprocessors, stream) ||
          multiply_few_k(type, p, multiprocessors, stream) ||
          multiply_few_iq2(type, p, multiprocessors, stream) ||
          multiply_few_low_bit(type, p, multiprocessors, stream)) {
        return;
      }
      throw Error("cuda matmul: weight type " + std::to_string(static_cast<std::uint32_t>(type)) +
                  " has no kernels");
  }
}

// Offsets within a matrix are of 32 bits.
constexpr std::size_t kMostBytes = std::size_t{1} << 32;

std::size_t rows_at_once(const FewTokensProduct& product) {
  const std::size_t rows = (kMostBytes - 1) / row_bytes(product.w.type, product.w.cols);
  return std::min(product.w.rows, rows / 16 * 16);
}

FewTokensMatrix matrix(const FewTokensProduct& product, std::size_t first, std::size_t count) {
  const Weights w = product.w.slice(first, count);
  return {reinterpret_cast<const std::uint8_t*>(w.data),
          product.y.data + first,
          product.y.stride,
          product.bias == nullptr ? nullptr : product.bias + first,
          static_cast<unsigned>(count),
          w.factor,
          product.accumulate};
}

FewTokens without_matrices(const Weights& like, const DigitsView& x) {
  FewTokens p{};
  p.x = x.data;
  p.row_bytes = static_cast<unsigned>(row_bytes(like.type, like.cols));
  p.cols = static_cast<unsigned>(x.cols);
  p.tokens = static_cast<unsigned>(x.rows);
  return p;
}

// Nothing if one of them has to be divided.
std::optional<FewTokens> all_at_once(std::span<const FewTokensProduct> products,
                                     const DigitsView& x) {
  FewTokens p = without_matrices(products.front().w, x);
  for (const FewTokensProduct& product : products) {
    if (product.w.rows > rows_at_once(product)) return std::nullopt;
    p.matrices[p.count++] = matrix(product, 0, product.w.rows);
  }
  return p;
}

}  // namespace

bool map_rows(FewTokens& p, unsigned bytes, unsigned rows, unsigned most_apart) {
  if (!facts_of_device().has_hopper_code || p.row_bytes % 2 != 0) return false;
  p.rows_apart = 1;
  while (p.rows_apart * p.row_bytes % kUnit != 0) p.rows_apart *= 2;
  if (p.rows_apart > most_apart) return false;
  p.panel_rows = rows / p.rows_apart;
  for (unsigned i = 0; i < p.count; ++i) {
    const FewTokensMatrix& m = p.matrices[i];
    if (!aligned(m.w, kUnit) || m.rows % p.rows_apart != 0) return false;
    p.maps[i] = byte_map(m.w, m.rows / p.rows_apart, std::size_t{p.row_bytes} * p.rows_apart, bytes,
                         p.panel_rows);
  }
  return true;
}

void multiply_few(std::span<const FewTokensProduct> products, const DigitsView& x,
                  cudaStream_t stream) {
  const Weights& first = products.front().w;
  FewTokens p = without_matrices(first, x);
  const auto launch = [&] {
    if (p.count == 0) return;
    run(first.type, p, stream);
    check_launch("matmul of a few tokens", {p.matrices[0].rows, x.cols, x.rows, p.count});
    p.count = 0;
  };
  for (const FewTokensProduct& product : products) {
    const std::size_t most = rows_at_once(product);
    for (std::size_t row = 0; row < product.w.rows; row += most) {
      if (p.count == kMostTogether) launch();
      p.matrices[p.count++] = matrix(product, row, std::min(most, product.w.rows - row));
    }
  }
  launch();
}

bool multiply_few_of_two(std::span<const FewTokensProduct> first,
                         std::span<const FewTokensProduct> second, const DigitsView& x,
                         cudaStream_t stream) {
  if (second.empty() || x.rows != 1) return false;
  const auto p = all_at_once(first, x);
  const auto q = all_at_once(second, x);
  if (!p || !q) return false;
  const bool done = multiply_few_of_two(first.front().w.type, second.front().w.type, *p, *q,
                                        facts_of_device().multiprocessors, stream);
  if (done) check_launch("matmul of a few tokens", {first.front().w.rows, x.cols, x.rows, 2});
  return done;
}

}  // namespace tensor_pager::kernels::cuda
