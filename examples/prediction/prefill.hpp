// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <variant>

#include "pager/policy_options.hpp"
#include "prediction/prediction.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::prediction {

/// A prefill to be predicted, and the machine that would run it.
struct PrefillCase {
  std::uint32_t prompt = 0;
  std::variant<Bytes, qwen::Percent> arena = qwen::Percent{100};
  std::optional<Bytes> vram{};  ///< all memory of a run, instead of `arena`
  Bytes page{};                 ///< 0: by the size of the model
  Bytes granularity{};          ///< of pages, if `page` is 0
  std::uint32_t ubatch = 8192;  ///< with `vram`, or as many as it allows
  PolicyOptions policy{};
  bool host = false;  ///< the device is the processors, so that steps and copies slow one another
  kernels::WeightType cache_type = kernels::WeightType::f32;
  double link = 0;          ///< bytes per second
  double arithmetic = 0;    ///< floating-point operations per second of whole steps
  double weights_rate = 0;  ///< bytes of weights per second that steps read besides; 0: no limit
  double map_seconds = 0;   ///< to map a page
  /// Passes before the first that is counted; 0 begins with nothing resident.
  std::uint32_t warm_up = 0;
  std::uint32_t passes = 1;  ///< that are counted
};

struct PredictedPrefill {
  Bytes arena;
  Bytes page;
  Bytes beside;              ///< the arena: key-value cache and activations
  std::uint32_t tokens = 0;  ///< of the passes counted
  Prediction prediction;

  double tokens_per_second() const { return tokens / prediction.seconds; }
};

/// Runs the plan that qwen_prefill would have, memory beside the arena being plentiful. Throws what
/// plan_memory and predict throw if the arena is too small.
PredictedPrefill predict_prefill(const qwen::Model& model, const PrefillCase& what);

/// What a pass with everything resident takes in time: operations / arithmetic + bytes /
/// weights_rate.
struct PassCost {
  double operations = 0;
  double weight_bytes = 0;  ///< that its steps read, ubatch by ubatch
};
PassCost pass_cost(const qwen::Model& model, const PrefillCase& what);

}  // namespace tensor_pager::prediction
