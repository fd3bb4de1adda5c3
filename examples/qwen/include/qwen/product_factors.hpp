// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "loaders/gguf.hpp"

namespace tensor_pager::qwen {

/// What products with a model's matrices are multiplied by. Files of NVFP4 keep one scale of a
/// whole matrix, as the tensor "NAME.scale" of one F32 beside "NAME.weight". (What they call
/// "NAME.input_scale" is for engines that round activations to four bits, too.)
class ProductFactors {
 public:
  ProductFactors() = default;
  /// Reads them. Throws GgufError that names the tensor if one is no F32, is not a single number,
  /// is not finite or cannot be read, and if the token embedding has one.
  explicit ProductFactors(const loaders::GgufModel& model);

  /// Of the tensor at this index of GgufModel::tensors(): 1 if it has no scale.
  float of(std::uint32_t tensor) const { return factors_.empty() ? 1.0F : factors_[tensor]; }

 private:
  std::vector<float> factors_;  // of each tensor; none if no tensor has a scale
};

}  // namespace tensor_pager::qwen
