// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "loaders/tokenizer.hpp"
#include "qwen/logits_sink.hpp"

namespace tensor_pager::qwen {

/// exp of the mean negative log-likelihood, and its standard error: sqrt(variance / (n - 1)) times
/// it, as llama-perplexity prints.
struct PerplexityEstimate {
  double value = 0;
  double error = 0;
};

/// Sums the negative log-likelihoods of tokens.
class Perplexity {
 public:
  void add(double negative_log_likelihood);
  std::size_t count() const { return count_; }
  PerplexityEstimate estimate() const;

 private:
  std::size_t count_ = 0;
  double sum_ = 0;
  double sum_of_squares_ = 0;
};

/// Scores tokens as their logits come, slice of the vocabulary by slice: log sum exp needs only its
/// running maximum and sum.
class TokenScores final : public LogitsSink {
 public:
  /// `targets[i]` is the token that the logits of wanted position i should predict, one of
  /// `vocabulary` tokens; logits of rows beyond are not counted. Wanted positions beyond the
  /// targets are not scored. The targets outlive this object. Throws Error for a target that is no
  /// token.
  TokenScores(std::span<const loaders::TokenId> targets, std::size_t vocabulary);

  void take(std::size_t first, std::size_t first_token,
            const kernels::ConstMatrixView& logits) override;

  /// Once all logits have come.
  void add_to(Perplexity& perplexity) const;

 private:
  struct Score {
    double maximum;
    double sum = 0;  // of exp(logit - maximum)
    double target = 0;
  };

  std::span<const loaders::TokenId> targets_;
  std::size_t vocabulary_;
  std::vector<Score> scores_;
};

/// Which positions of a chunk of `context` tokens are scored: its second half, from `first` on,
/// each by the token after it; the last position has none.
struct ScoredPositions {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};
ScoredPositions scored_positions(std::uint32_t context);

}  // namespace tensor_pager::qwen
