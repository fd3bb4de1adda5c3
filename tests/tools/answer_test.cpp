// SPDX-License-Identifier: Apache-2.0
// The sentence with which a report begins.
#include "report/answer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace tensor_pager::pager_stats {
namespace {

using nlohmann::ordered_json;

constexpr double kMiB = 1 << 20;

// Points are MiB of arena and tokens per second; a pass of the other kind is far off.
ordered_json curve(const std::string& name, bool cold, std::size_t own,
                   const std::vector<std::pair<double, double>>& points) {
  ordered_json json = {{"name", name}, {"cold", cold}, {"why_not", ""}, {"own", own}};
  json["points"] = ordered_json::array();
  for (const auto& [mebibytes, rate] : points) {
    const ordered_json is = {{"tokens_per_s", rate}};
    const ordered_json other = {{"tokens_per_s", 1e9}};
    json["points"].push_back(
        {{"bytes", mebibytes * kMiB}, {"cold", cold ? is : other}, {"warm", cold ? other : is}});
  }
  return json;
}

std::string answer(const std::vector<ordered_json>& curves) {
  return budget_answer(curves, 100 * kMiB);
}

TEST(BudgetAnswer, NamesTheSmallestBudgetThatHelps) {
  EXPECT_EQ(
      answer({curve("prefill", true, 0, {{10, 100}, {50, 101}, {100, 102}}),
              curve("generation", false, 0, {{10, 4}, {50, 9.8}, {100, 10}})}),
      "Would a larger budget help? Yes: generation would run at 9.80 instead of 4.00 tokens/s "
      "(+145%) with an arena of 50.00 MiB, 50% of the weights; prefill would not gain.");
}

// Nearly the best is what the run had, and a smaller arena has by chance: neither is a gain.
TEST(BudgetAnswer, ABudgetThatHelpsIsLargerAndFaster) {
  EXPECT_EQ(answer({curve("prefill", true, 1, {{10, 90}, {40, 100}, {70, 103}, {100, 105.2}})}),
            "Would a larger budget help? Yes: prefill would run at 105.2 instead of 100.0 tokens/s "
            "(+5%) with an arena of 100.00 MiB, 100% of the weights.");
  EXPECT_EQ(answer({curve("prefill", true, 1, {{39, 110}, {40, 100}, {100, 104}})}),
            "Would a larger budget help? No: none would make it faster by more than 5%.");
}

TEST(BudgetAnswer, SaysIfLessWouldDo) {
  EXPECT_EQ(
      answer({curve("prefill", true, 2, {{10, 100}, {20, 198}, {100, 200}})}),
      "Would a larger budget help? No: none would make it faster by more than 5%. A smaller one "
      "would do: an arena of 20.00 MiB, 20% of the weights, costs less than 5%.");
  EXPECT_EQ(answer({curve("prefill", true, 0, {{95, 190}, {100, 191}})}),
            "Would a larger budget help? No: none would make it faster by more than 5%.");
}

TEST(BudgetAnswer, SaysWhyItCannotTell) {
  ordered_json none = curve("prefill", true, 0, {});
  none["why_not"] = "nothing was copied, so the rate of the link is not known";
  EXPECT_EQ(
      answer({none}),
      "Would another budget help? This run cannot tell: nothing was copied, so the rate of the "
      "link is not known.");
  EXPECT_THAT(answer({}), testing::HasSubstr("the trace has no plan"));
}

}  // namespace
}  // namespace tensor_pager::pager_stats
