// SPDX-License-Identifier: Apache-2.0
#include "qwen/operations.hpp"

namespace tensor_pager::qwen {

void Operations::matmul(std::span<const Projection> products, const ActivationView& x) {
  for (const Projection& product : products) {
    matmul(product.w, x, product.y, {.bias = product.bias});
  }
}

void Operations::matmul(std::span<const GatedProjection> products, const ActivationView& x) {
  for (const GatedProjection& product : products) {
    matmul(product.w, x, product.y, product.first_col, product.bias);
  }
}

void Operations::rotate_and_store(const kernels::MatrixView& q, std::size_t heads,
                                  const kernels::MatrixView& keys,
                                  const kernels::MatrixView& values, std::size_t kv_heads,
                                  std::size_t first_token, std::span<const CachePlace> places) {
  rope_queries(q, heads, first_token);
  for (const CachePlace& place : places) {
    const auto rows = [&](const kernels::MatrixView& m) -> kernels::MatrixView {
      return {m.row(place.row), place.count, m.cols, m.stride};
    };
    store(rows(keys), rows(values), kv_heads, first_token + place.row, place.cache, place.position);
  }
}

}  // namespace tensor_pager::qwen
