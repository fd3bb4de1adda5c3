// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "../edited_model.hpp"
#include "loaders/tokenizer.hpp"

namespace tensor_pager::qwen {

/// How positions turn pairs: angle = position * frequencies[i], values times magnitude.
struct ExactRope {
  std::vector<double> frequencies;
  double magnitude = 1;
};

/// base^(-2i / dims) for i below dims / 2.
ExactRope plain_rope(std::size_t dims, double base);

struct ExactShape {
  std::size_t layers = 0;
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
};

/// The logits [tokens, vocabulary] of a dense Qwen model in float64, from the formulas alone: no
/// kernel, graph or metadata of the library has a part in it (but dequantisation). Every bias that
/// the file has is added.
std::vector<double> exact_logits(tests::EditedModel& model, const ExactShape& shape,
                                 const ExactRope& rope,
                                 const std::vector<loaders::TokenId>& tokens);

}  // namespace tensor_pager::qwen
