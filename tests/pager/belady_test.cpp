// SPDX-License-Identifier: Apache-2.0
// Promise 4: bytes copied are optimal. The core is held against an oracle that shares no code with
// it.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <random>
#include <set>
#include <vector>

#include "belady_oracle.hpp"
#include "immediate_driver.hpp"

namespace tensor_pager::testing {
namespace {

constexpr int kPasses = 5;

struct Case {
  std::uint32_t pages;
  std::uint32_t frames;
  std::vector<std::vector<std::uint32_t>> steps;  // pages of each step
};

Case random_case(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto in = [&](std::uint32_t low, std::uint32_t high) {
    return low + static_cast<std::uint32_t>(random() % (high - low + 1));
  };
  Case result;
  result.pages = in(2, 60);
  const std::uint32_t steps = in(1, 40);
  const std::uint32_t most = in(1, std::min(6U, result.pages));
  const bool cyclic = in(0, 1) == 0;
  std::uint32_t at = 0;
  std::uint32_t largest = 1;
  for (std::uint32_t i = 0; i < steps; ++i) {
    std::set<std::uint32_t> step;
    for (std::uint32_t k = in(1, most); k-- > 0;)
      step.insert(cyclic ? at++ % result.pages : in(0, result.pages - 1));
    largest = std::max(largest, static_cast<std::uint32_t>(step.size()));
    result.steps.emplace_back(step.begin(), step.end());
  }
  result.frames = in(largest, result.pages + 2);
  return result;
}

std::vector<std::set<std::uint32_t>> passes(const Case& c) {
  std::vector<std::set<std::uint32_t>> sequence;
  for (int pass = 0; pass < kPasses; ++pass) {
    for (const auto& step : c.steps) sequence.emplace_back(step.begin(), step.end());
  }
  return sequence;
}

std::uint64_t copies(const Case& c, const PolicyOptions& policy) {
  ImmediateDriver driver(c.pages, c.frames, policy);
  driver.core().set_plan(plan_of_pages(c.steps));
  for (int pass = 0; pass < kPasses; ++pass) {
    for (std::uint32_t step = 0; step < c.steps.size(); ++step) driver.use(StepIndex{step});
  }
  return driver.core().counters().loads - driver.unused_loads();
}

TEST(Belady, CopiesEqualTheOptimumWithoutPrefetch) {
  std::uint64_t optimal = 0;
  std::uint64_t lru = 0;
  for (std::uint64_t seed = 1; seed <= 500; ++seed) {
    const Case c = random_case(seed);
    const std::uint64_t expected = belady_copies(passes(c), c.frames);
    ASSERT_EQ(copies(c, {.window = kWholePass, .prefetch_depth = 0}), expected) << "seed " << seed;
    optimal += expected;
    lru += copies(c, {.window = 0, .prefetch_depth = 0});
  }
  RecordProperty("copies_optimal", std::to_string(optimal));
  RecordProperty("copies_plain_lru", std::to_string(lru));
  std::cout << "pages copied over 500 plans, 5 passes: optimal and lookahead " << optimal
            << ", plain LRU " << lru << "\n";
  EXPECT_GT(lru, optimal);
}

TEST(Belady, CopiesNeverExceedTheOptimumOfAnArenaSmallerByThePrefetchDepth) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const Case c = random_case(seed);
    std::size_t largest = 1;
    for (const auto& step : c.steps) largest = std::max(largest, step.size());
    for (std::uint32_t depth = 1; depth <= 8; ++depth) {
      const std::size_t effective = std::min<std::size_t>(depth, c.frames - largest);
      const std::uint64_t bound = belady_copies(passes(c), c.frames - effective);
      ASSERT_LE(copies(c, {.window = kWholePass, .prefetch_depth = depth}), bound)
          << "seed " << seed << " depth " << depth;
    }
  }
}

/// Passes whose pages have homes are no exception: each page once or twice, in order, default
/// depth.
TEST(Belady, CopiesOfPagesWithHomesNeverExceedTheOptimumEither) {
  int homes = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    Case c{.pages = 30 + static_cast<std::uint32_t>(random() % 60), .frames = 0, .steps = {}};
    const std::uint64_t most = 1 + random() % 4;
    const bool twice = random() % 3 == 0;
    for (std::uint32_t page = 0; page < c.pages;) {
      std::vector<std::uint32_t> step;
      for (std::uint64_t k = 1 + random() % most; k-- > 0 && page < c.pages;)
        step.push_back(page++);
      c.steps.insert(c.steps.end(), twice ? 2 : 1, step);
    }
    c.frames = static_cast<std::uint32_t>(most + random() % c.pages);
    ImmediateDriver driver(c.pages, c.frames, {});
    driver.core().set_plan(plan_of_pages(c.steps));
    homes += driver.core().homes() ? 1 : 0;
    const std::uint64_t bound =
        belady_copies(passes(c), c.frames - driver.core().prefetch_frames());
    ASSERT_LE(copies(c, {}), bound) << "seed " << seed;
  }
  EXPECT_GT(homes, 150);
}

TEST(Belady, WindowOfZeroIsPlainLru) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const Case c = random_case(seed);
    ASSERT_EQ(copies(c, {.window = 0, .prefetch_depth = 4}), lru_copies(passes(c), c.frames))
        << "seed " << seed;
  }
}

TEST(Belady, OptimalCounterOfTheCoreIsTheOracle) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const Case c = random_case(seed);
    ImmediateDriver driver(c.pages, c.frames, {.window = 0, .prefetch_depth = 0});
    driver.core().set_plan(plan_of_pages(c.steps));
    for (int pass = 0; pass < kPasses; ++pass) {
      for (std::uint32_t step = 0; step < c.steps.size(); ++step) driver.use(StepIndex{step});
    }
    ASSERT_EQ(driver.core().counters().optimal_loads, belady_copies(passes(c), c.frames))
        << "seed " << seed;
  }
}

/// A cycle of N pages through C frames: LRU evicts each page just before its use; keeping C - 1 of
/// them is what can be had.
TEST(Belady, CycleLargerThanTheArenaGetsTheHitsThatBeladyAllows) {
  Case c{.pages = 100, .frames = 40, .steps = {}};
  for (std::uint32_t page = 0; page < c.pages; ++page) c.steps.push_back({page});
  const std::uint64_t accesses = kPasses * c.pages;
  EXPECT_EQ(copies(c, {.window = 0, .prefetch_depth = 0}), accesses) << "plain LRU gets no hit";
  const std::uint64_t with_lookahead = copies(c, {.window = kWholePass, .prefetch_depth = 0});
  EXPECT_EQ(with_lookahead, belady_copies(passes(c), c.frames));
  EXPECT_LE(with_lookahead, c.pages + (kPasses - 1) * (c.pages - c.frames + 1));
  EXPECT_LE(copies(c, {.window = kWholePass, .prefetch_depth = 4}),
            c.pages + (kPasses - 1) * (c.pages - c.frames + 4 + 1));
}

/// What is kept of a pass lies all over it, so that the link has something to do everywhere.
TEST(Belady, MissesAreSpreadOverThePass) {
  constexpr std::uint32_t kDepth = 6;
  Case c{.pages = 100, .frames = 40 + kDepth, .steps = {}};
  for (std::uint32_t page = 0; page < c.pages; page += 2) c.steps.push_back({page, page + 1});
  ImmediateDriver driver(c.pages, c.frames, {.window = kWholePass, .prefetch_depth = kDepth});
  driver.core().set_plan(plan_of_pages(c.steps));
  for (int pass = 0; pass < kPasses; ++pass) {
    for (std::uint32_t step = 0; step < c.steps.size(); ++step) driver.use(StepIndex{step});
  }
  driver.settle();
  const std::vector<PageIndex> copied = driver.copied();
  // Each page once, then at most 60 of 100 in every pass, and between two copies at most one kept
  // page and one that happened to be left.
  ASSERT_LE(copied.size(), c.pages + (kPasses - 1) * 60U + kDepth);
  ASSERT_GE(copied.size(), c.pages + (kPasses - 1) * 50U);
  for (std::size_t i = c.pages + 60; i < copied.size(); ++i) {
    const std::uint32_t distance = (copied[i].value + c.pages - copied[i - 1].value) % c.pages;
    EXPECT_LE(distance, 3U) << "copy " << i;
  }
}

TEST(Belady, APlanMaySayHowFarCopiesRunAhead) {
  Case c{.pages = 100, .frames = 50, .steps = {}};
  for (std::uint32_t page = 0; page < c.pages; page += 2) c.steps.push_back({page, page + 1});
  const auto copied_with = [&](std::optional<std::uint32_t> of_plan, std::uint32_t of_policy) {
    ImmediateDriver driver(c.pages, c.frames, {.window = kWholePass, .prefetch_depth = of_policy});
    AccessPlan plan = plan_of_pages(c.steps);
    plan.prefetch_depth = of_plan;
    driver.core().set_plan(plan);
    EXPECT_EQ(driver.core().prefetch_frames(), of_plan.value_or(of_policy));
    for (int pass = 0; pass < kPasses; ++pass) {
      for (std::uint32_t step = 0; step < c.steps.size(); ++step) driver.use(StepIndex{step});
    }
    driver.settle();
    const std::size_t copied = driver.copied().size();
    driver.core().set_plan(plan_of_pages(c.steps));
    EXPECT_EQ(driver.core().prefetch_frames(), of_policy);
    return copied;
  };
  EXPECT_EQ(copied_with(20, 6), copied_with({}, 20));
  EXPECT_EQ(copied_with(6, 20), copied_with({}, 6));
  EXPECT_LT(copied_with(6, 20), copied_with(20, 6));
}

TEST(Belady, MissesAreNotSpreadWhereThatWouldCostCopies) {
  // Pages 0 and 1 are read in every other step: streaming one of them would copy it each time.
  Case c{.pages = 42, .frames = 12, .steps = {}};
  for (std::uint32_t page = 2; page < c.pages; ++page) {
    c.steps.push_back({0, 1});
    c.steps.push_back({page});
  }
  EXPECT_LE(copies(c, {.window = kWholePass, .prefetch_depth = 4}),
            belady_copies(passes(c), c.frames - 4));
}

/// Timing must not matter: the order of copies is decided by the plan, whenever copies end and
/// fences pass.
TEST(Belady, CopiesDoNotDependOnTiming) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const Case c = random_case(seed);
    std::vector<std::vector<PageIndex>> orders;
    for (std::uint64_t timing = 0; timing < 4; ++timing) {
      ImmediateDriver driver(c.pages, c.frames, {.window = kWholePass, .prefetch_depth = 3});
      driver.delay_randomly(timing);
      driver.core().set_plan(plan_of_pages(c.steps));
      for (int pass = 0; pass < kPasses; ++pass) {
        for (std::uint32_t step = 0; step < c.steps.size(); ++step) driver.use(StepIndex{step});
      }
      driver.settle();
      orders.push_back(driver.copied());
    }
    for (const auto& order : orders) ASSERT_EQ(order, orders.front()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace tensor_pager::testing
