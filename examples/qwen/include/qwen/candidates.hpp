// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "loaders/tokenizer.hpp"

// The steps by which a token is chosen, each a function of what the one before it left. They are
// defined, and named, as in llama.cpp, whose users know what a temperature of 0.7 does there.
namespace tensor_pager::qwen {

/// A token that may be the next.
struct Candidate {
  loaders::TokenId token = 0;
  float logit = 0;
};
using Candidates = std::vector<Candidate>;

/// Makes them the first `vocabulary` tokens with their logits: candidate i is token i. Memory that
/// they have is used again.
void assign(Candidates& candidates, std::span<const float> logits, std::size_t vocabulary);

/// How often each token was among the last ones. A token that was not has no entry.
using TokenCounts = std::unordered_map<loaders::TokenId, std::uint32_t>;

struct Penalties {
  float repeat = 1;     ///< logits above 0 are divided by it, others multiplied; 1: nothing
  float presence = 0;   ///< taken from the logit of a token that was there
  float frequency = 0;  ///< taken from it for each time
};

/// Makes tokens that were there less likely. Candidate i must be token i.
void penalize(Candidates& candidates, const TokenCounts& counts, const Penalties& penalties);

/// Takes out what has no finite logit.
void keep_finite(Candidates& candidates);

/// Keeps the `k` most likely, in descending order; of equally likely ones the first. 0 keeps all.
void keep_top_k(Candidates& candidates, std::size_t k);

/// Keeps the most likely, in descending order, that together have a share of at least `p` of the
/// candidates' probability: as few as that takes, and at least one. 1 or more keeps all.
void keep_top_p(Candidates& candidates, float p);

/// Keeps those at least `p` times as likely as the most likely. 0 or less keeps all.
void keep_min_p(Candidates& candidates, float p);

/// The most likely one; of equally likely ones the first token. There must be one.
loaders::TokenId most_likely(const Candidates& candidates);

/// The candidate at `uniform`, in [0, 1), where each has a stretch as long as its probability,
/// softmax(logit / temperature). There must be one; the temperature is more than 0.
loaders::TokenId draw(const Candidates& candidates, float temperature, double uniform);

}  // namespace tensor_pager::qwen
