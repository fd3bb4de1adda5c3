// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "loaders/placement.hpp"
#include "pager/policy_options.hpp"
#include "prediction/generation.hpp"
#include "qwen/generation_placement.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::prediction {

/// Places as somebody else has chosen them.
struct GivenPlaces {
  std::vector<std::uint32_t> cpu_layers;  ///< whose feed-forward part the processors compute
  std::uint32_t prefetch_depth = 0;       ///< 0: the pager's own
};

/// Tokens to be generated, and the machine that would do it.
struct TokensCase {
  std::uint32_t tokens = 1;     ///< of each sequence
  std::uint32_t sequences = 1;  ///< that a pass advances together
  std::variant<Bytes, qwen::Percent> arena = qwen::Percent{100};
  std::optional<Bytes> vram{};  ///< all memory of a run, instead of `arena`
  Bytes page{};                 ///< 0: by the size of the model
  Bytes granularity{};          ///< of pages, if `page` is 0
  PolicyOptions policy{};
  qwen::PlaceWish place{};
  std::optional<GivenPlaces> given{};  ///< instead of `place`
  kernels::WeightType cache_type = kernels::WeightType::f32;
  loaders::PlacementRates rates{};
  bool host = false;       ///< GenerationCase::host
  double map_seconds = 0;  ///< to map a page
};

struct PredictedTokens {
  Bytes arena;
  Bytes page;
  Bytes beside;  ///< the arena: key-value cache and activations
  Bytes on_cpu;  ///< weights that the processors read for a token
  std::uint32_t tokens = 0;
  std::uint32_t sequences = 1;
  PredictedGeneration token;  ///< a pass: the mean of them

  /// Of all sequences together.
  double tokens_per_second() const { return sequences / token.seconds; }
};

/// Runs what qwen_prefill --place would run for each token, memory beside the arena being
/// plentiful. Throws what plan_memory and predict_tokens throw if the arena is too small, and
/// std::invalid_argument for rates that are not positive.
PredictedTokens predict_placed_tokens(const qwen::Model& model, const TokensCase& what);

/// What generating a token with everything resident takes besides waiting for nothing: bytes of
/// weights, and steps.
struct TokenCost {
  double weight_bytes = 0;
  double steps = 0;
};
TokenCost token_cost(const qwen::Model& model, const TokensCase& what);

}  // namespace tensor_pager::prediction
