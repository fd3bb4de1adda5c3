// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <span>

#include "loaders/tokenizer.hpp"
#include "qwen/candidates.hpp"

namespace tensor_pager::qwen {

/// By default the most likely token, and nothing else, matters.
struct SamplerOptions {
  float temperature = 0;                          ///< 0: the most likely token that penalties leave
  std::size_t top_k = 0;                          ///< 0: all
  float top_p = 1;                                ///< 1: all
  float min_p = 0;                                ///< 0: all
  Penalties penalties{};                          ///< for tokens among the last `repeat_last_n`
  std::optional<std::size_t> repeat_last_n = 64;  ///< nothing: all that came before
  std::uint64_t seed = 0;
};

/// Chooses the next token: penalties, top-k, top-p, min-p and temperature, in this order, which is
/// llama.cpp's. Top-p is a share of what top-k has left, at temperature 1.
///
/// Equal options, tokens and logits give equal tokens: the numbers drawn are those of
/// std::mt19937_64, which the standard defines, and nothing else is random.
class Sampler {
 public:
  /// Tokens from `vocabulary` on have rows in the output matrix, but no meaning (the matrices of
  /// Qwen are padded), and are never chosen.
  Sampler(const SamplerOptions& options, std::size_t vocabulary);

  /// Tokens that came before, oldest first: the prompt. What choose() returns is noted by itself.
  void accept(std::span<const loaders::TokenId> tokens);

  /// The next token, from the logits of all. Throws Error if no logit is finite.
  loaders::TokenId choose(std::span<const float> logits);

 private:
  void accept(loaders::TokenId token);
  loaders::TokenId choose_from(Candidates& candidates);

  SamplerOptions options_;
  std::size_t vocabulary_;
  std::deque<loaders::TokenId> last_;
  TokenCounts counts_;  // of last_
  std::mt19937_64 random_;
  Candidates candidates_;  // of the token that is chosen
};

}  // namespace tensor_pager::qwen
