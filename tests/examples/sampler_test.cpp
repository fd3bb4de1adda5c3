// SPDX-License-Identifier: Apache-2.0
// The sampler against the definitions of its steps, written out here once more.
#include "qwen/sampler.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

using loaders::TokenId;
using Probabilities = std::vector<double>;  // by token; 0: cannot be chosen

// softmax(logits / temperature) of the tokens that are left; -inf: taken out.
Probabilities softmax(const std::vector<double>& logits, double temperature) {
  const double best = *std::ranges::max_element(logits);
  Probabilities p;
  for (const double logit : logits) p.push_back(std::exp((logit - best) / temperature));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

constexpr double kOut = -std::numeric_limits<double>::infinity();

// The tokens from the most to the least likely.
std::vector<std::size_t> ranking(const std::vector<double>& logits) {
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::ranges::greater(), [&](std::size_t i) { return logits[i]; });
  return order;
}

// One step each, in the words of its definition.
using Step = std::function<void(std::vector<double>& logits)>;

Step penalties(const Penalties& penalties, const std::vector<TokenId>& history) {
  return [=](std::vector<double>& logits) {
    for (TokenId token = 0; token < logits.size(); ++token) {
      const auto count = static_cast<double>(std::ranges::count(history, token));
      if (count == 0) continue;
      double& logit = logits[token];
      logit *= logit > 0 ? 1 / static_cast<double>(penalties.repeat)
                         : static_cast<double>(penalties.repeat);
      logit -= static_cast<double>(penalties.presence);
      logit -= static_cast<double>(penalties.frequency) * count;
    }
  };
}

Step top_k(std::size_t k) {
  return [=](std::vector<double>& logits) {
    if (k == 0) return;
    const auto order = ranking(logits);
    for (std::size_t rank = k; rank < order.size(); ++rank) logits[order[rank]] = kOut;
  };
}

Step top_p(double p) {
  return [=](std::vector<double>& logits) {
    if (p >= 1) return;
    const Probabilities all = softmax(logits, 1);
    double sum = 0;
    for (const std::size_t token : ranking(logits)) {
      if (sum >= p && sum > 0) logits[token] = kOut;
      sum += all[token];
    }
  };
}

Step min_p(double p) {
  return [=](std::vector<double>& logits) {
    const Probabilities all = softmax(logits, 1);
    const double least = p * *std::ranges::max_element(all);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (all[i] < least) logits[i] = kOut;
    }
  };
}

Step temperature(double t) {
  return [=](std::vector<double>& logits) {
    for (double& logit : logits) logit /= t;
  };
}

// A vocabulary of 12 tokens and three rows of padding, whose logits would win.
const std::vector<float> kLogits = {1.5F, -0.5F, 2.25F, 0.25F, 0.0F,  1.0F, 2.0F, -2.0F,
                                    0.5F, 1.25F, -1.0F, 0.75F, 30.0F, 9.0F, 9.0F};
constexpr std::size_t kVocabulary = 12;
const std::vector<TokenId> kHistory = {7, 2, 6, 6, 2, 6, 9, 1};

struct Case {
  std::string name;
  SamplerOptions options;
  std::vector<TokenId> history{};
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

std::vector<Step> steps(const Case& c) {
  std::vector<TokenId> window = c.history;
  const std::size_t n = c.options.repeat_last_n.value_or(window.size());
  if (window.size() > n)
    window.erase(window.begin(), window.end() - static_cast<std::ptrdiff_t>(n));
  return {penalties(c.options.penalties, window), top_k(c.options.top_k),
          top_p(static_cast<double>(c.options.top_p)), min_p(static_cast<double>(c.options.min_p)),
          temperature(static_cast<double>(c.options.temperature))};
}

Probabilities distribution(const std::vector<Step>& steps) {
  std::vector<double> logits(kLogits.begin(), kLogits.begin() + kVocabulary);
  for (const Step& step : steps) step(logits);
  return softmax(logits, 1);
}

Probabilities defined(const Case& c) {
  return distribution(steps(c));
}

// How often each token is chosen, each time by a sampler with a seed of its own.
constexpr int kDraws = 20'000;
std::vector<int> drawn(const Case& c) {
  std::vector<int> counts(kLogits.size(), 0);
  for (int i = 0; i < kDraws; ++i) {
    SamplerOptions options = c.options;
    options.seed = static_cast<std::uint64_t>(i) * 7919;
    Sampler sampler(options, kVocabulary);
    sampler.accept(c.history);
    ++counts[sampler.choose(kLogits)];
  }
  return counts;
}

// Pearson's statistic in units of its own deviations above the mean (Wilson and Hilferty, 1931):
// near a standard normal number if the counts are of this distribution. Infinite if something was
// drawn that cannot be.
double deviation(const std::vector<int>& counts, const Probabilities& probabilities) {
  double statistic = 0;
  double freedom = -1;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double expected = i < probabilities.size() ? probabilities[i] * kDraws : 0;
    if (expected == 0 && counts[i] > 0) return std::numeric_limits<double>::infinity();
    if (expected == 0) continue;
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++freedom;
  }
  if (freedom == 0) return 0;
  const double variance = 2 / (9 * freedom);
  return (std::cbrt(statistic / freedom) - (1 - variance)) / std::sqrt(variance);
}

constexpr double kFits = 4;      // by chance once in 30,000 cases, and seeds are fixed
constexpr double kFailsBy = 10;  // a sampler that does something else is far beyond chance

class Distribution : public testing::TestWithParam<Case> {};

TEST_P(Distribution, IsTheDefinedOne) {
  EXPECT_LT(deviation(drawn(GetParam()), defined(GetParam())), kFits);
}

// What the same draws are if one of the options is ignored: the case does tell.
TEST_P(Distribution, IsNotThatOfASamplerThatIgnoresAnOption) {
  const Case& c = GetParam();
  const std::vector<int> counts = drawn(c);
  const SamplerOptions neutral{.temperature = 1};
  const auto expect_told = [&](const char* what, auto change) {
    Case ignoring = c;
    change(ignoring.options);
    if (defined(ignoring) == defined(c)) return;  // it is neutral in this case
    EXPECT_GT(deviation(counts, defined(ignoring)), kFailsBy) << what;
  };
  expect_told("temperature", [&](SamplerOptions& o) { o.temperature = neutral.temperature; });
  expect_told("top_k", [&](SamplerOptions& o) { o.top_k = neutral.top_k; });
  expect_told("top_p", [&](SamplerOptions& o) { o.top_p = neutral.top_p; });
  expect_told("min_p", [&](SamplerOptions& o) { o.min_p = neutral.min_p; });
  expect_told("repeat", [&](SamplerOptions& o) { o.penalties.repeat = 1; });
  expect_told("presence", [&](SamplerOptions& o) { o.penalties.presence = 0; });
  expect_told("frequency", [&](SamplerOptions& o) { o.penalties.frequency = 0; });
  expect_told("repeat_last_n", [&](SamplerOptions& o) { o.repeat_last_n = 0; });
}

const std::vector<Case> kCases = {
    {"Plain", {.temperature = 1}},
    {"Cold", {.temperature = 0.4F}},
    {"Hot", {.temperature = 3}},
    {"TopK", {.temperature = 1, .top_k = 4}},
    {"TopKBeyondAll", {.temperature = 1, .top_k = 100}},
    {"TopP", {.temperature = 1, .top_p = 0.7F}},
    {"TopPOfNothingKeepsOne", {.temperature = 1, .top_p = 0}},
    {"MinP", {.temperature = 1, .min_p = 0.25F}},
    {"MinPOfOneKeepsTheBest", {.temperature = 1, .min_p = 1}},
    {"Repeat", {.temperature = 1, .penalties = {.repeat = 1.8F}}, kHistory},
    {"Presence", {.temperature = 1, .penalties = {.presence = 1}}, kHistory},
    {"Frequency", {.temperature = 1, .penalties = {.frequency = 0.5F}}, kHistory},
    {"NegativePresence", {.temperature = 1, .penalties = {.presence = -1}}, kHistory},
    {"Window", {.temperature = 1, .penalties = {.frequency = 0.8F}, .repeat_last_n = 4}, kHistory},
    {"WindowOfAll",
     {.temperature = 1, .penalties = {.frequency = 0.8F}, .repeat_last_n = std::nullopt},
     kHistory},
    {"WindowOfNothing",
     {.temperature = 1, .penalties = {.repeat = 5, .presence = 3}, .repeat_last_n = 0},
     kHistory},
    {"TopPAfterTopK", {.temperature = 1, .top_k = 6, .top_p = 0.8F}},
    {"TemperatureAfterTopP", {.temperature = 2.5F, .top_p = 0.75F}},
    {"TemperatureAfterMinP", {.temperature = 2.5F, .min_p = 0.3F}},
    {"TopKAfterPenalties", {.temperature = 1, .top_k = 3, .penalties = {.presence = 2}}, kHistory},
    {"All",
     {.temperature = 0.7F,
      .top_k = 8,
      .top_p = 0.9F,
      .min_p = 0.2F,
      .penalties = {.repeat = 1.3F, .presence = 0.3F, .frequency = 0.1F},
      .repeat_last_n = 6},
     kHistory},
};

INSTANTIATE_TEST_SUITE_P(Options, Distribution, testing::ValuesIn(kCases),
                         [](const auto& c) { return c.param.name; });

// Any two neighbouring steps the other way round give something else, and so the draws tell.
TEST(SamplerOrder, IsThatOfLlamaCpp) {
  const std::vector<Case> cases = {
      {"penalties, top-k", {.temperature = 1, .top_k = 3, .penalties = {.presence = 2}}, kHistory},
      {"top-k, top-p", {.temperature = 1, .top_k = 5, .top_p = 0.72F}},
      {"top-p, min-p", {.temperature = 1, .top_p = 0.85F, .min_p = 0.35F}},
      {"min-p, temperature", {.temperature = 2.5F, .min_p = 0.3F}},
      {"top-p, temperature", {.temperature = 2.5F, .top_p = 0.75F}},
      {"penalties, temperature", {.temperature = 3, .penalties = {.presence = 2}}, kHistory}};
  const std::vector<std::pair<int, int>> exchanged = {{0, 1}, {1, 2}, {2, 3},
                                                      {3, 4}, {2, 4}, {0, 4}};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(cases[i].name);
    std::vector<Step> order = steps(cases[i]);
    const std::vector<int> counts = drawn(cases[i]);
    EXPECT_LT(deviation(counts, distribution(order)), kFits);
    std::swap(order[static_cast<std::size_t>(exchanged[i].first)],
              order[static_cast<std::size_t>(exchanged[i].second)]);
    EXPECT_GT(deviation(counts, distribution(order)), kFailsBy);
  }
}

TEST(Sampler, DrawsTheSameNumbersEverywhere) {
  Sampler sampler({.temperature = 1, .seed = 42}, 1'000'000);
  const std::vector<float> equal(1'000'000, 0.0F);
  std::vector<TokenId> tokens;
  for (int i = 0; i < 4; ++i) tokens.push_back(sampler.choose(equal));
  EXPECT_THAT(tokens, testing::ElementsAre(755155, 639031, 752145, 136272));
}

TEST(Sampler, ZeroTemperatureTakesTheFirstOfTheMostLikely) {
  const std::vector<float> logits = {0, 3, 1, 3};
  Sampler sampler({.top_k = 2, .top_p = 0.1F, .seed = 5}, logits.size());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(sampler.choose(logits), 1U);
}

// Greedily too, what was there gives way to what was not.
TEST(Sampler, PenaltiesCountWhatWasChosen) {
  const std::vector<float> logits = {1.0F, 0.9F, 0.8F};
  Sampler sampler({.penalties = {.presence = 1}, .repeat_last_n = 2}, logits.size());
  std::vector<TokenId> tokens;
  for (int i = 0; i < 7; ++i) tokens.push_back(sampler.choose(logits));
  EXPECT_THAT(tokens, testing::ElementsAre(0, 1, 2, 0, 1, 2, 0));

  Sampler all({.penalties = {.frequency = 0.04F}, .repeat_last_n = std::nullopt}, logits.size());
  tokens.clear();
  for (int i = 0; i < 7; ++i) tokens.push_back(all.choose(logits));
  EXPECT_THAT(tokens, testing::ElementsAre(0, 0, 0, 1, 0, 1, 0));
}

TEST(Sampler, RowsOfPaddingAreNeverChosen) {
  const std::vector<float> logits = {0, 1, 100, 100};
  EXPECT_EQ(Sampler({}, 2).choose(logits), 1U);
  Sampler hot({.temperature = 100}, 2);
  for (int i = 0; i < 100; ++i) EXPECT_LT(hot.choose(logits), 2U);
  EXPECT_EQ(Sampler({}, 10).choose(logits), 2U) << "a vocabulary larger than the matrix";
}

TEST(Sampler, WhatIsNoNumberIsNeverChosen) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {kNan, 0, kInfinity, -kInfinity, 1, kNan};
  EXPECT_EQ(Sampler({}, 6).choose(logits), 4U);
  Sampler sampler({.temperature = 1, .top_k = 5, .top_p = 0.99F, .min_p = 0.01F}, 6);
  for (int i = 0; i < 100; ++i) EXPECT_THAT(sampler.choose(logits), testing::AnyOf(1U, 4U));
  EXPECT_THAT([&] { Sampler({}, 1).choose(logits); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("none of 6 logits")));
}

// Temperatures at which probabilities leave the range of numbers.
TEST(Sampler, ExtremeTemperaturesAreLimits) {
  const std::vector<float> logits = {5, 4.999F, -3};
  Sampler cold({.temperature = 1e-40F}, 3);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(cold.choose(logits), 0U);
  std::vector<int> counts(3, 0);
  Sampler hot({.temperature = 1e30F}, 3);
  for (int i = 0; i < 3000; ++i) ++counts[hot.choose(logits)];
  for (const int count : counts) EXPECT_NEAR(count, 1000, 150);
}

// A share that is reached exactly is enough.
TEST(Candidates, TopPKeepsNoMoreThanItTakes) {
  const std::vector<float> equal(8, 1.0F);
  Candidates kept;
  assign(kept, equal, equal.size());
  keep_top_p(kept, 0.5F);
  EXPECT_EQ(kept.size(), 4U);
}

// What is sorted only as far as needed is the same as what is sorted altogether.
TEST(Candidates, FiltersOfLargeVocabulariesKeepWhatTheirDefinitionsSay) {
  constexpr std::size_t kTokens = 152'064;
  std::mt19937_64 random(3);
  for (const double spread : {0.01, 1.0, 4.0}) {
    std::vector<float> logits(kTokens);
    // Rounded, so that many are equal.
    for (float& logit : logits) {
      logit = static_cast<float>(std::round(static_cast<double>(random() % 2000) / 100) * spread);
    }
    const auto all = [&] {
      Candidates candidates;
      assign(candidates, logits, kTokens);
      return candidates;
    };
    Candidates sorted = all();
    std::ranges::stable_sort(sorted, std::ranges::greater(), &Candidate::logit);
    const auto expect_first = [&](const Candidates& kept, std::size_t count) {
      ASSERT_EQ(kept.size(), count);
      for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(kept[i].token, sorted[i].token);
    };
    for (const std::size_t k : {1U, 40U, 5000U, 151'000U, 200'000U}) {
      Candidates kept = all();
      keep_top_k(kept, k);
      expect_first(kept, std::min<std::size_t>(k, kTokens));
    }
    for (const float p : {0.0F, 0.3F, 0.95F, 0.9999F}) {
      double wanted = 0;
      const auto odds = [&](const Candidate& c) {
        return std::exp(static_cast<double>(c.logit - sorted.front().logit));
      };
      for (const Candidate& c : sorted) wanted += odds(c) * static_cast<double>(p);
      std::size_t count = 0;
      for (double sum = 0; count == 0 || sum < wanted; ++count) sum += odds(sorted[count]);
      Candidates kept = all();
      keep_top_p(kept, p);
      // Sums in another order round differently: an equal neighbour may be in or out.
      EXPECT_NEAR(static_cast<double>(kept.size()), static_cast<double>(count), 1);
      expect_first(kept, kept.size());
    }
  }
}

}  // namespace
}  // namespace tensor_pager::qwen
