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

}  // namespace tensor_pager::qwen
