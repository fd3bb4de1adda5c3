// SPDX-License-Identifier: Apache-2.0
#include "qwen/sampler.hpp"

#include <fmt/format.h>

#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

// Not std::uniform_real_distribution: its numbers differ between standard libraries.
double uniform(std::mt19937_64& random) {
  return static_cast<double>(random() >> 11) * 0x1.0p-53;
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options, std::size_t vocabulary)
    : options_(options), vocabulary_(vocabulary), random_(options.seed) {}

void Sampler::accept(std::span<const loaders::TokenId> tokens) {
  for (const loaders::TokenId token : tokens) accept(token);
}

void Sampler::accept(loaders::TokenId token) {
  if (options_.repeat_last_n == std::size_t{0}) return;
  if (last_.size() == options_.repeat_last_n) {
    const auto oldest = counts_.find(last_.front());
    if (--oldest->second == 0) counts_.erase(oldest);
    last_.pop_front();
  }
  last_.push_back(token);
  ++counts_[token];
}

loaders::TokenId Sampler::choose(std::span<const float> logits) {
  assign(candidates_, logits, vocabulary_);
  penalize(candidates_, counts_, options_.penalties);
  keep_finite(candidates_);
  if (candidates_.empty()) {
    throw Error(
        fmt::format("none of {} logits is a finite number, so no token can be chosen; is the model "
                    "file damaged?",
                    logits.size()));
  }
  const loaders::TokenId token = choose_from(candidates_);
  accept(token);
  return token;
}

loaders::TokenId Sampler::choose_from(Candidates& candidates) {
  // The filters never take out the most likely one.
  if (options_.temperature <= 0) return most_likely(candidates);
  keep_top_k(candidates, options_.top_k);
  keep_top_p(candidates, options_.top_p);
  keep_min_p(candidates, options_.min_p);
  return draw(candidates, options_.temperature, uniform(random_));
}

}  // namespace tensor_pager::qwen
