// SPDX-License-Identifier: Apache-2.0
#include "qwen/cpu_operations.hpp"

#include <algorithm>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/norm.hpp"
#include "kernels/products.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

// A cache of float32 is what this makes; the view is const for those who only read it.
void copy_rows(const kernels::ConstMatrixView& from, const std::byte* cache, std::size_t first,
               std::size_t stride) {
  float* const to = reinterpret_cast<float*>(const_cast<std::byte*>(cache)) + first * stride;
  for (std::size_t r = 0; r < from.rows; ++r) std::copy_n(from.row(r), from.cols, to + r * stride);
}

kernels::MatrixView floats(const ActivationView& a) {
  return {reinterpret_cast<float*>(a.data), a.rows, a.cols, a.cols};
}

kernels::MatrixView columns(const ActivationView& a, std::size_t first, std::size_t count) {
  const kernels::MatrixView all = floats(a);
  return {all.data + first, all.rows, count, all.stride};
}

}  // namespace

void CpuOperations::prepare_positions(const kernels::RopeFrequencies& frequencies,
                                      std::span<const std::size_t> positions) {
  rope_table_.emplace(frequencies, positions);
}

void CpuOperations::matmul(const kernels::Weights& w, const ActivationView& x,
                           const kernels::MatrixView& y, const MatmulOptions& options) {
  kernels::cpu::matmul(w, floats(x), y, {.bias = options.bias, .accumulate = options.accumulate});
}

void CpuOperations::matmul(const kernels::Weights& w, const ActivationView& x,
                           const ActivationView& y, std::size_t first_col, const float* bias) {
  kernels::cpu::matmul(w, floats(x), columns(y, first_col, w.rows), {.bias = bias});
}

void CpuOperations::matmul(std::span<const Projection> products, const ActivationView& x) {
  std::vector<kernels::cpu::SharedProduct> shared;
  for (const Projection& product : products) {
    shared.push_back({product.w, product.y, {.bias = product.bias}});
  }
  kernels::cpu::matmul(shared, floats(x));
}

void CpuOperations::matmul(std::span<const GatedProjection> products, const ActivationView& x) {
  std::vector<kernels::cpu::SharedProduct> shared;
  for (const GatedProjection& product : products) {
    shared.push_back(
        {product.w, columns(product.y, product.first_col, product.w.rows), {.bias = product.bias}});
  }
  kernels::cpu::matmul(shared, floats(x));
}

void CpuOperations::rms_norm(const kernels::ConstMatrixView& x, const float* weight,
                             const NormOptions& options, const kernels::MatrixView& out) {
  const bool finite = kernels::cpu::rms_norm(x, weight, options.epsilon, out);
  if (finite || !options.stage) return;
  not_finite_ = std::min(not_finite_.value_or(*options.stage), *options.stage);
}

void CpuOperations::rms_norm(const kernels::ConstMatrixView& x, const float* weight,
                             const NormOptions& options, const ActivationView& out) {
  rms_norm(x, weight, options, floats(out));
}

void CpuOperations::convert(const kernels::ConstMatrixView& x, const ActivationView& out) {
  const kernels::MatrixView copy = floats(out);
  for (std::size_t r = 0; r < x.rows; ++r) std::copy_n(x.row(r), x.cols, copy.row(r));
}

void CpuOperations::rope_queries(const kernels::MatrixView& q, std::size_t heads,
                                 std::size_t first_token) {
  if (!rope_table_) throw Error("queries and keys need prepare_positions first");
  kernels::cpu::rope(q, heads, first_token, *rope_table_);
}

void CpuOperations::store(const kernels::MatrixView& keys, const kernels::ConstMatrixView& values,
                          std::size_t heads, std::size_t first_token,
                          const kernels::KvCacheView& cache, std::size_t first_position) {
  rope_queries(keys, heads, first_token);
  copy_rows(keys, cache.keys, first_position, cache.position_stride);
  copy_rows(values, cache.values, first_position, cache.position_stride);
}

void CpuOperations::attention(const kernels::AttentionShape& shape,
                              const kernels::ConstMatrixView& q, std::size_t first_row,
                              const kernels::KvCacheView& cache, const ActivationView& out) {
  const kernels::MatrixView results = floats(out);
  kernels::cpu::attention(shape, {q.row(first_row), shape.tokens, q.cols, q.stride}, cache,
                          {results.row(first_row), shape.tokens, results.cols, results.stride});
}

void CpuOperations::copy(const std::byte* from, std::byte* to, Bytes size) {
  std::copy_n(from, size.count, to);
}

void CpuOperations::to_host(const std::byte* device, std::span<std::byte> host) {
  std::copy_n(device, host.size(), host.data());
}

void CpuOperations::to_device(std::span<const std::byte> host, std::byte* device) {
  std::ranges::copy(host, device);
}

void CpuOperations::swiglu(const ActivationView& gate, const ActivationView& up,
                           const ActivationView& out) {
  kernels::cpu::swiglu(floats(gate), floats(up), floats(out));
}

void CpuOperations::dequantize(kernels::WeightType type, const std::byte* data, float* out,
                               std::size_t elements) {
  kernels::cpu::dequantize(type, data, out, elements);
}

void CpuOperations::embed(kernels::WeightType type, const RowReader& read, std::byte* raw,
                          const kernels::MatrixView& out) {
  read({raw, out.rows * kernels::row_bytes(type, out.cols)});
  kernels::cpu::dequantize(type, raw, out.data, out.rows * out.cols);
}

kernels::ConstMatrixView CpuOperations::download(const kernels::ConstMatrixView& device) {
  return device;
}

std::span<float> CpuOperations::lend(const kernels::MatrixView& rows) {
  return {rows.data, rows.rows * rows.cols};
}

}  // namespace tensor_pager::qwen
