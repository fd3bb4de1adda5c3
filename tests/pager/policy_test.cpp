// SPDX-License-Identifier: Apache-2.0
// Which pages leave, and in which order.
#include "core/policy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "immediate_driver.hpp"
#include "pager/errors.hpp"
#include "random.hpp"

namespace tensor_pager::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kKeepNone = [](PageIndex) { return false; };

PagePlan plan(std::uint32_t pages, const std::vector<std::vector<std::uint32_t>>& steps) {
  return PagePlan({kTestPage * pages, kTestPage}, plan_of_pages(steps));
}

/// The pages in the order in which the policy gives them up.
std::vector<std::uint32_t> victims(ReplacementPolicy& policy) {
  std::vector<std::uint32_t> order;
  while (const auto victim = policy.victim(kKeepNone)) {
    order.push_back(victim->value);
    policy.remove(*victim);
  }
  return order;
}

void use(ReplacementPolicy& policy, Position position, std::uint32_t page) {
  policy.advance_to(position);
  if (!policy.contains({page})) policy.insert({page});
  policy.touch({page});
}

TEST(ReplacementPolicy, FarthestNextUseLeavesFirst) {
  const PagePlan steps = plan(4, {{0}, {1}, {2}, {3}});
  ReplacementPolicy policy(steps, 4, kWholePass);
  for (std::uint32_t i = 0; i < 4; ++i) use(policy, 4 + i, i);
  policy.advance_to(8);  // step 0 again: page 0 is due now, pages 1 to 3 at 9 to 11
  EXPECT_THAT(victims(policy), ElementsAre(3, 2, 1, 0));
}

TEST(ReplacementPolicy, PagesWithoutAUseInTheWindowLeaveBeforeAllOthersLeastRecentlyUsedFirst) {
  const PagePlan steps = plan(6, {{0}, {1}, {2}, {3}, {4}, {5}});
  ReplacementPolicy policy(steps, 6, 2);
  for (const std::uint32_t page : {3U, 1U, 5U, 0U}) use(policy, 5, page);
  for (const std::uint32_t page : {5U, 1U}) {  // used later than 3 and 0
    policy.advance_to(5);
    policy.touch({page});
  }
  policy.advance_to(
      6);  // step 0: page 0 is due, and the window holds steps 1 and 2, so page 1 is foreseen
  EXPECT_THAT(victims(policy), ElementsAre(3, 5, 1, 0));
}

TEST(ReplacementPolicy, PageEntersTheWindowAsTimePasses) {
  const PagePlan steps = plan(4, {{0}, {1}, {2}, {3}});
  ReplacementPolicy policy(steps, 4, 1);
  use(policy, 4, 0);
  policy.insert({3});
  policy.insert({1});
  policy.advance_to(5);
  policy.touch({1});
  policy.advance_to(6);  // step 2: only step 3 is foreseen
  EXPECT_THAT(victims(policy), ElementsAre(0, 1, 3));
}

TEST(ReplacementPolicy, WindowOfZeroIsLeastRecentlyUsed) {
  const PagePlan steps = plan(3, {{0}, {1}, {2}});
  ReplacementPolicy policy(steps, 3, 0);
  for (const std::uint32_t page : {2U, 0U, 1U}) use(policy, 3, page);
  policy.advance_to(4);
  EXPECT_THAT(victims(policy), ElementsAre(2, 0, 1));
}

TEST(ReplacementPolicy, PagesInUseAndKeptPagesStay) {
  const PagePlan steps = plan(3, {{0}, {1}, {2}});
  ReplacementPolicy policy(steps, 3, kWholePass);
  policy.insert({1});
  policy.insert({2});
  use(policy, 3, 0);
  const auto victim = policy.victim([](PageIndex page) { return page.value == 2; });
  ASSERT_TRUE(victim.has_value());
  EXPECT_EQ(victim->value, 1U);
}

TEST(ReplacementPolicy, TiesAreBrokenByPageIndex) {
  const PagePlan steps = plan(4, {{0}, {1, 2, 3}});
  ReplacementPolicy policy(steps, 4, kWholePass);
  for (const std::uint32_t page : {2U, 1U, 3U}) policy.insert({page});
  policy.advance_to(2);
  EXPECT_THAT(victims(policy), ElementsAre(3, 2, 1));
}

TEST(PagePlan, NextUseWrapsAroundThePass) {
  const PagePlan steps = plan(3, {{0}, {1}, {0, 2}, {1}});
  EXPECT_EQ(steps.next_use({0}, 4), 6U);
  EXPECT_EQ(steps.next_use({0}, 6), 8U);
  EXPECT_EQ(steps.next_use({2}, 6), 10U);
  EXPECT_EQ(steps.next_use({1}, 4), 5U);
}

TEST(PagePlan, PagesOfUnalignedRangesAreMergedAndSorted) {
  const PageLayout layout{kTestPage * 10, kTestPage};
  const std::vector<ByteRange> ranges = {{kTestPage * 5, Bytes{1}},
                                         {kTestPage * 2 - Bytes{1}, Bytes{2}},
                                         {kTestPage * 2, kTestPage},
                                         {kTestPage * 9, Bytes{0}}};
  EXPECT_THAT(pages_of(layout, ranges), ElementsAre(PageIndex{1}, PageIndex{2}, PageIndex{5}));
}

TEST(PagePlan, RangeOutsideTheImageIsAnError) {
  const PageLayout layout{Bytes{10000}, kTestPage};
  const std::vector<ByteRange> beyond = {{Bytes{9999}, Bytes{2}}};
  const std::vector<ByteRange> overflowing = {{Bytes{16}, Bytes{~0ULL}}};
  EXPECT_THROW(pages_of(layout, beyond), Error);
  EXPECT_THROW(pages_of(layout, overflowing), Error);
}

TEST(PagePlan, LargestStepCountsTheChoicesThatCanBeMadeAtOnce) {
  AccessPlan choices = plan_of_pages({{0}, {1, 2}});
  choices.steps[0].choices = {
      {kTestPage * 3, kTestPage * 2}, {kTestPage * 5, kTestPage}, {kTestPage * 6, kTestPage * 3}};
  choices.steps[0].choose_at_most = 2;
  EXPECT_EQ(PagePlan({kTestPage * 10, kTestPage}, choices).largest_step(), 1U + 3U + 2U);
}

/// Steps until one of the walks comes to the page, by trying.
Position steps_until(const PagePlan& steps, const std::vector<std::uint32_t>& walkers,
                     PageIndex page) {
  for (Position ahead = 1;; ++ahead) {
    for (const std::uint32_t walker : walkers) {
      const auto pages = steps.pages(walker + ahead);
      if (std::ranges::find(pages, page) != pages.end()) return ahead;
    }
  }
}

TEST(ReplacementPolicy, OfSeveralWalksThePageLeavesThatTheNearestIsFarthestFrom) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    std::vector<std::vector<std::uint32_t>> reads(random.in(1, 12));
    for (std::vector<std::uint32_t>& step : reads) {
      for (std::uint32_t count = random.in(1, 3); count > 0; --count)
        step.push_back(random.in(0, 15));  // many are read more than once in a pass
    }
    const PagePlan steps = plan(16, reads);
    ReplacementPolicy policy(steps, 16, 0);
    for (const PageIndex page : steps.pages_read()) {
      if (random.chance(70)) policy.insert(page);
    }
    std::vector<std::uint32_t> walkers(random.in(1, 4));
    for (std::uint32_t& walker : walkers) walker = random.in(0, steps.steps() - 1);
    policy.set_walkers(walkers);
    const std::uint32_t kept = random.in(0, 15);
    const auto keep = [&](PageIndex page) { return page.value == kept; };
    std::vector<Position> left;
    while (const auto victim = policy.victim(keep)) {
      left.push_back(steps_until(steps, walkers, *victim));
      policy.remove(*victim);
    }
    EXPECT_TRUE(std::ranges::is_sorted(left, std::greater<>())) << "seed " << seed;
    EXPECT_EQ(policy.size(), policy.contains({kept}) ? 1U : 0U) << "seed " << seed;
  }
}

TEST(ReplacementPolicy, BesideSeveralWalksAPageThatWasLongNotUsedLeaves) {
  const PagePlan steps = plan(5, {{0}, {1}, {2}, {3}});
  ReplacementPolicy policy(steps, 5, 0);
  policy.set_walkers({0, 2});
  use(policy, 4, 4);  // not of the plan
  for (const std::uint32_t page : {0U, 1U, 2U, 3U}) policy.insert({page});
  for (int i = 0; i < 3; ++i) policy.advance_to(4);
  EXPECT_EQ(policy.victim(kKeepNone), PageIndex{0}) << "two steps of each, and one and a half";
  for (int i = 0; i < 3; ++i) policy.advance_to(4);
  EXPECT_EQ(policy.victim(kKeepNone), PageIndex{4}) << "two steps of each, and three";
}

}  // namespace
}  // namespace tensor_pager::testing
