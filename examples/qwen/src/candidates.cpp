// SPDX-License-Identifier: Apache-2.0
#include "qwen/candidates.hpp"

#include <algorithm>
#include <cmath>

namespace tensor_pager::qwen {
namespace {

// A total order, so that what is kept does not depend on how it is sorted.
bool is_better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

double best_logit(const Candidates& candidates) {
  return std::ranges::max_element(candidates, {}, &Candidate::logit)->logit;
}

// How likely a candidate is beside the best.
double odds(const Candidate& candidate, double best) {
  return std::exp(static_cast<double>(candidate.logit) - best);
}

// Puts the best of the candidates from `begin` on into the places up to `end`, in order.
void sort_next(Candidates& candidates, std::size_t begin, std::size_t end) {
  const auto at = [&](std::size_t i) {
    return candidates.begin() + static_cast<std::ptrdiff_t>(i);
  };
  constexpr std::size_t kFew = 256;  // a heap of more is slower than two passes
  if (end - begin <= kFew) {
    std::partial_sort(at(begin), at(end), candidates.end(), is_better);
    return;
  }
  if (end < candidates.size()) {
    std::nth_element(at(begin), at(end), candidates.end(), is_better);
  }
  std::sort(at(begin), at(end), is_better);
}

}  // namespace

void assign(Candidates& candidates, std::span<const float> logits, std::size_t vocabulary) {
  candidates.resize(std::min(logits.size(), vocabulary));
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    candidates[i] = {.token = static_cast<loaders::TokenId>(i), .logit = logits[i]};
  }
}

void penalize(Candidates& candidates, const TokenCounts& counts, const Penalties& penalties) {
  for (const auto& [token, count] : counts) {
    if (token >= candidates.size()) continue;
    float& logit = candidates[token].logit;
    // A negative logit that was divided would become more likely.
    logit = logit > 0 ? logit / penalties.repeat : logit * penalties.repeat;
    logit -= penalties.presence + penalties.frequency * static_cast<float>(count);
  }
}

void keep_finite(Candidates& candidates) {
  std::erase_if(candidates, [](const Candidate& c) { return !std::isfinite(c.logit); });
}

void keep_top_k(Candidates& candidates, std::size_t k) {
  if (k == 0) return;
  const std::size_t kept = std::min(k, candidates.size());
  sort_next(candidates, 0, kept);
  candidates.resize(kept);
}

void keep_top_p(Candidates& candidates, float p) {
  if (p >= 1 || candidates.empty()) return;
  const double best = best_logit(candidates);
  double wanted = 0;
  for (const Candidate& candidate : candidates) wanted += odds(candidate, best);
  wanted *= static_cast<double>(p);
  // A vocabulary has 150,000 tokens, of which most often a few dozen have nearly all probability.
  constexpr std::size_t kFewest = 64;
  std::size_t sorted = 0;
  double kept = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (i == sorted) {
      sorted = std::min(candidates.size(), std::max(kFewest, 8 * sorted));
      sort_next(candidates, i, sorted);
    }
    kept += odds(candidates[i], best);
    if (kept >= wanted) {
      candidates.resize(i + 1);
      return;
    }
  }
}

void keep_min_p(Candidates& candidates, float p) {
  if (p <= 0 || candidates.empty()) return;
  const double least = best_logit(candidates) + std::log(std::min(static_cast<double>(p), 1.0));
  std::erase_if(candidates, [&](const Candidate& c) { return c.logit < least; });
}

loaders::TokenId most_likely(const Candidates& candidates) {
  return std::ranges::min_element(candidates, is_better)->token;
}

loaders::TokenId draw(const Candidates& candidates, float temperature, double uniform) {
  const double best = best_logit(candidates);
  std::vector<double> ends;  // of the candidates' stretches, whose lengths are not normalised
  ends.reserve(candidates.size());
  double end = 0;
  for (const Candidate& candidate : candidates) {
    end +=
        std::exp((static_cast<double>(candidate.logit) - best) / static_cast<double>(temperature));
    ends.push_back(end);
  }
  const auto found = std::ranges::upper_bound(ends, uniform * end);
  if (found == ends.end()) return most_likely(candidates);  // by rounding
  return candidates[static_cast<std::size_t>(found - ends.begin())].token;
}

}  // namespace tensor_pager::qwen
