#include "qwen/sampler.hpp"

#include <algorithm>
#include <cmath>

namespace tensor_pager::qwen {

loaders::TokenId Sampler::choose(std::span<const float> logits) {
  const auto best = std::ranges::max_element(logits);
  const auto greedy = static_cast<loaders::TokenId>(best - logits.begin());
  if (options_.temperature <= 0) return greedy;
  cumulative_.resize(logits.size());
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    sum += std::exp((static_cast<double>(logits[i]) - static_cast<double>(*best)) /
                    static_cast<double>(options_.temperature));
    cumulative_[i] = sum;
  }
  // Not std::uniform_real_distribution: its numbers differ between standard libraries.
  const double uniform = static_cast<double>(random_() >> 11) * 0x1.0p-53;
  const auto found = std::ranges::upper_bound(cumulative_, uniform * sum);
  if (found == cumulative_.end()) return greedy;  // rounding, or logits that are not numbers
  return static_cast<loaders::TokenId>(found - cumulative_.begin());
}

}  // namespace tensor_pager::qwen
