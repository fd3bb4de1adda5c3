#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "loaders/tokenizer.hpp"

namespace tensor_pager::qwen {

struct SamplerOptions {
  float temperature = 0;  ///< 0: the most likely token
  std::uint64_t seed = 0;
};

/// Chooses the next token. Equal options and logits give equal tokens on every machine.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {}

  /// Of equally likely tokens, greedily the first.
  loaders::TokenId choose(std::span<const float> logits);

 private:
  SamplerOptions options_;
  std::mt19937_64 random_;
  std::vector<double> cumulative_;
};

}  // namespace tensor_pager::qwen
