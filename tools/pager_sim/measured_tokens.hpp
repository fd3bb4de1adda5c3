// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "prediction/tokens.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::pager_sim {

/// Tokens that pager_bench generated.
struct MeasuredTokens {
  prediction::TokensCase what;  ///< arena, page, places and rates as they were
  Bytes arena;
  std::string place;  ///< as it was asked for
  double tokens_per_second = 0;
  Bytes copied;  ///< for all of them
  Bytes on_cpu;  ///< weights a token

  double seconds() const { return what.sequences / tokens_per_second; }  ///< a pass
};

/// Rows of generation in the output of a pager_bench.
struct GenerationRows {
  std::vector<MeasuredTokens> measured;
  /// Others, behind a long prompt: how long attention takes to read its keys is not predicted.
  std::size_t left_out = 0;
};

/// From the output of pager_bench -o json or jsonl. Throws qwen::Error if the file cannot be read,
/// or is something else.
GenerationRows read_tokens(const std::filesystem::path& path);

/// What rows tell of a machine that its calibration does not.
struct TokenRates {
  double gpu_memory = 0;  ///< bytes of weights per second that the device's kernels read
  /// How many times as long the processors' share takes as their calibrated rates say; 1 if no row
  /// tells.
  double cpu_slower = 1;
};

/// From rows that copied nothing: those that the device computed alone give its rate, those with a
/// share of the processors what that takes. Means of the times. On the host device all of them give
/// one rate. Throws qwen::Error if no row was
/// computed by the device alone, with everything resident.
TokenRates fit_tokens(const qwen::Model& model, const std::vector<MeasuredTokens>& measured);

/// The rates of a row, with those that were fitted. Where the device is the processors, they are
/// all off by one factor.
loaders::PlacementRates with_fitted(const prediction::TokensCase& row, const TokenRates& fitted);

/// A measurement, and what is predicted for it.
struct TokensComparison {
  MeasuredTokens measured;
  prediction::PredictedTokens predicted;

  /// How much faster the prediction is than the measurement: 0.1 for 10%.
  double error() const { return predicted.tokens_per_second() / measured.tokens_per_second - 1; }
};

/// Predicts every measurement that copied something.
std::vector<TokensComparison> compare_tokens(const qwen::Model& model, const TokenRates& fitted,
                                             std::optional<double> map_seconds,
                                             const std::vector<MeasuredTokens>& measured);

}  // namespace tensor_pager::pager_sim
