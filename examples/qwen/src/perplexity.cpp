// SPDX-License-Identifier: Apache-2.0
#include "qwen/perplexity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "qwen/error.hpp"

namespace tensor_pager::qwen {

void Perplexity::add(double negative_log_likelihood) {
  ++count_;
  sum_ += negative_log_likelihood;
  sum_of_squares_ += negative_log_likelihood * negative_log_likelihood;
}

PerplexityEstimate Perplexity::estimate() const {
  const auto n = static_cast<double>(count_);
  const double mean = sum_ / n;
  const double variance = std::max(sum_of_squares_ / n - mean * mean, 0.0);
  PerplexityEstimate estimate{.value = std::exp(mean)};
  if (count_ > 1) estimate.error = std::sqrt(variance / (n - 1)) * estimate.value;
  return estimate;
}

TokenScores::TokenScores(std::span<const loaders::TokenId> targets, std::size_t vocabulary)
    : targets_(targets),
      vocabulary_(vocabulary),
      scores_(targets.size(), {.maximum = -std::numeric_limits<double>::infinity()}) {
  const auto beyond =
      std::ranges::find_if(targets, [&](std::size_t token) { return token >= vocabulary; });
  if (beyond == targets.end()) return;
  throw Error(fmt::format(
      "token {} cannot be predicted: the vocabulary has {} tokens; give a text without it", *beyond,
      vocabulary));
}

void TokenScores::take(std::size_t first, std::size_t first_token,
                       const kernels::ConstMatrixView& logits) {
  if (first_token >= vocabulary_) return;
  const std::size_t tokens = std::min(logits.cols, vocabulary_ - first_token);
  for (std::size_t r = 0; r < logits.rows && first + r < scores_.size(); ++r) {
    Score& score = scores_[first + r];
    const std::span<const float> row(logits.row(r), tokens);
    const double maximum =
        std::max(score.maximum, static_cast<double>(*std::ranges::max_element(row)));
    score.sum *= std::exp(score.maximum - maximum);
    score.maximum = maximum;
    for (const float logit : row) score.sum += std::exp(static_cast<double>(logit) - maximum);
    const std::size_t target = targets_[first + r];
    if (target >= first_token && target < first_token + row.size()) {
      score.target = static_cast<double>(row[target - first_token]);
    }
  }
}

void TokenScores::add_to(Perplexity& perplexity) const {
  for (const Score& score : scores_) {
    perplexity.add(score.maximum + std::log(score.sum) - score.target);
  }
}

ScoredPositions scored_positions(std::uint32_t context) {
  const std::uint32_t first = context / 2;
  return {first, context - 1 - first};
}

}  // namespace tensor_pager::qwen
