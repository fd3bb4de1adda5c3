// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "loaders/gguf.hpp"
#include "loaders/graph.hpp"

namespace tensor_pager::qwen {

/// What products with a model's matrices are multiplied by: the values of Graph::scales, each one
/// F32.
class ProductFactors {
 public:
  ProductFactors() = default;
  /// Reads them; `graph` is the model's. Throws GgufError that names the tensor if one is no F32,
  /// is not a single number, is not finite or cannot be read, and if the token embedding has one.
  ProductFactors(const loaders::GgufModel& model, const loaders::Graph& graph);

  /// Of the tensor at this index of GgufModel::tensors(): 1 if it has no scale.
  float of(std::uint32_t tensor) const { return factors_.empty() ? 1.0F : factors_[tensor]; }

 private:
  std::vector<float> factors_;  // of each tensor; none if no tensor has a scale
};

}  // namespace tensor_pager::qwen
