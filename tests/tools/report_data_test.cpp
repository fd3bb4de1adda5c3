// SPDX-License-Identifier: Apache-2.0
// What the report computes from a recording, against what can be counted by hand.
#include "report/report_data.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "report/report.hpp"
#include "report/stays.hpp"
#include "report/timeline.hpp"
#include "report/traffic.hpp"
#include "report/what_if.hpp"

namespace tensor_pager::pager_stats {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr Bytes kPage = KiB(4);

RecordedSpan step(double begin, double end, std::uint32_t index, std::uint32_t plan = 0) {
  return {begin, end, 0, "step", Trace::PlanPosition{plan, StepIndex{index}}};
}

RecordedCopy copy(double begin, std::uint32_t first, std::uint32_t count, Bytes bytes) {
  return {begin, begin + 1, {{first}, count}, bytes};
}

// Four pages, of which the plan's two steps read two each.
Recording recording() {
  Recording recording;
  recording.layout = {kPage * 4, kPage};
  recording.plans = {{0, {{{.reads = {{{}, kPage * 2}}}, {.reads = {{kPage * 2, kPage * 2}}}}}}};
  recording.frames = {{0, 3}};
  return recording;
}

// --- Traffic

TEST(Traffic, GivesEveryByteToThePartThatHasIt) {
  Recording r = recording();
  // Bytes 0 to 999 have no name; "b" overlaps the end of "a".
  r.parts = {{"blk.0.b", {kPage - Bytes{96}, kPage}}, {"blk.0.a", {Bytes{1000}, Bytes{3096}}}};
  r.copies = {copy(1, 0, 2, kPage * 2), copy(2, 0, 1, kPage)};
  const Traffic t = traffic(r);
  ASSERT_EQ(t.parts.size(), 3U);
  EXPECT_EQ(t.parts[0].name, "blk.0.a");
  EXPECT_EQ(t.parts[0].copied.sum(), Bytes{2 * 3096});
  EXPECT_EQ(t.parts[1].name, "blk.0.b");
  EXPECT_EQ(t.parts[1].copied.sum(), Bytes{4000});
  EXPECT_EQ(t.parts[2].name, "(no name)");
  EXPECT_EQ(t.parts[2].copied.sum(), Bytes{2 * 1000 + 96});
  ASSERT_EQ(t.groups.size(), 2U);
  EXPECT_EQ(t.groups[0].name, "blk.0");
  EXPECT_EQ(t.groups[0].size, Bytes{7096});
  EXPECT_EQ(t.groups[0].copied.sum() + t.groups[1].copied.sum(), kPage * 3);
}

TEST(Traffic, CountsWhatAFailedCopyBrought) {
  Recording r = recording();
  r.parts = {{"a", {{}, kPage * 2}}, {"b", {kPage * 2, kPage * 2}}};
  r.copies = {copy(1, 1, 2, kPage + Bytes{7})};
  const Traffic t = traffic(r);
  ASSERT_EQ(t.parts.size(), 2U);  // there is nothing without a name
  EXPECT_EQ(t.parts[0].copied.sum(), kPage);
  EXPECT_EQ(t.parts[1].copied.sum(), Bytes{7});
}

TEST(Traffic, IsDividedWhereTheSecondPlanIsSet) {
  Recording r = recording();
  r.parts = {{"a", {{}, kPage * 4}}};
  r.plans.push_back({10, r.plans[0].plan});
  r.copies = {copy(1, 0, 1, kPage), copy(10, 0, 2, kPage * 2), copy(50, 3, 1, kPage)};
  const Copied copied = traffic(r).parts.at(0).copied;
  EXPECT_EQ(copied.first_plan, kPage);
  EXPECT_EQ(copied.later, kPage * 3);
}

TEST(Traffic, GroupsByTheFirstNumberInAName) {
  EXPECT_EQ(group_of("blk.12.attn_q.weight"), "blk.12");
  EXPECT_EQ(group_of("model.layers.3.mlp.0.weight"), "model.layers.3");
  EXPECT_EQ(group_of("output.weight"), "output");
  EXPECT_EQ(group_of("x2.y"), "x2");
  EXPECT_EQ(group_of(""), "");
  EXPECT_EQ(group_of("a..7"), "a..7");
}

// --- Residency

TEST(Stays, AreFromArrivalToEvictionOrTheEnd) {
  Recording r = recording();
  r.changes = {
      {1, {{0}, 3}, true}, {2, {{1}, 1}, false}, {4, {{1}, 1}, true}, {5, {{1}, 2}, false}};
  r.steps = {step(0, 9, 0)};
  std::vector<std::string> found;
  for (const Stay& stay : stays(r)) {
    found.push_back(std::to_string(stay.pages.first.value) + "+" +
                    std::to_string(stay.pages.count) + " " + std::to_string(int(stay.from)) + "-" +
                    std::to_string(int(stay.to)));
  }
  EXPECT_THAT(found, testing::UnorderedElementsAre("1+1 1-2", "1+1 4-5", "2+1 1-5", "0+1 1-9"));
}

TEST(Stays, NeighboursWithTheSameTimesAreOne) {
  Recording r = recording();
  r.changes = {{1, {{0}, 4}, true}, {2, {{0}, 4}, false}};
  ASSERT_EQ(stays(r).size(), 1U);
  EXPECT_EQ(stays(r)[0].pages, (PageRun{{0}, 4}));
}

TEST(Stays, ContradictionsAreRefused) {
  Recording r = recording();
  r.changes = {{1, {{0}, 1}, true}, {2, {{0}, 1}, true}};
  EXPECT_THROW(stays(r), TraceError);
  r.changes = {{1, {{3}, 1}, false}};
  EXPECT_THROW(stays(r), TraceError);
}

TEST(Stays, TheShortestAreLeftOutWhereThereAreTooMany) {
  std::vector<Stay> all;
  for (const double length : {5.0, 1.0, 3.0, 2.0, 4.0, 3.0}) all.push_back({{}, 0, length});
  EXPECT_EQ(keep_longest(all, 6), 0);
  EXPECT_EQ(all.size(), 6U);
  EXPECT_EQ(keep_longest(all, 3), 3);
  EXPECT_EQ(all.size(), 3U);
}

// --- The timeline

TEST(Marks, AreTheSpansWhereThereIsRoom) {
  const std::vector<RecordedCopy> copies = {copy(0, 0, 1, kPage), copy(1, 1, 1, kPage)};
  const std::vector<Mark> all = marks(copies, 2);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[1].first, 1U);
  EXPECT_EQ(all[1].count, 1U);
}

TEST(Marks, StandForNeighboursWhereThereIsNot) {
  std::vector<RecordedSpan> spans;
  for (int i = 0; i < 10000; ++i) spans.push_back(step(i * 1e-5, i * 1e-5 + 5e-6, 0));
  const std::vector<Mark> all = marks(spans, 1000);
  EXPECT_LE(all.size(), 1000U);
  EXPECT_GE(all.size(), 100U);
  std::size_t next = 0;
  for (const Mark& mark : all) {
    EXPECT_EQ(mark.first, next);
    EXPECT_EQ(mark.begin, spans[next].begin);
    next += mark.count;
    EXPECT_EQ(mark.end, spans[next - 1].end);
  }
  EXPECT_EQ(next, spans.size());
}

// --- What if

// Two passes: 1 s and 2 s, then 1.5 s and 2.5 s. Before the last step it waits; between the passes
// the caller takes its time.
Recording measured_recording() {
  Recording r = recording();
  r.steps = {step(10, 11, 0), step(11, 13, 1), step(20, 21.5, 0), step(24, 26.5, 1)};
  r.stalls = {{9, 10, 0, "", Trace::PlanPosition{0, StepIndex{0}}},
              {21.5, 24, 0, "", Trace::PlanPosition{0, StepIndex{1}}}};
  return r;
}

TEST(MeasuredPlan, TakesTheMeanOfAStepsRuns) {
  const MeasuredPlan m = measure(measured_recording(), 0);
  EXPECT_EQ(m.passes, 2U);
  EXPECT_EQ(m.steps_measured, 2U);
  EXPECT_THAT(m.step_seconds, ElementsAre(testing::DoubleEq(1.25), testing::DoubleEq(2.25)));
  EXPECT_DOUBLE_EQ(m.first_pass, 4);  // from the wait for its first pages on
  EXPECT_EQ(m.frames, 3U);
}

TEST(MeasuredPlan, AStepLastsUntilItsStreamGoesOn) {
  Recording r = recording();
  r.steps = {step(0, 1, 0), step(1.25, 2, 1)};  // the host was late by a quarter
  EXPECT_DOUBLE_EQ(measure(r, 0).step_seconds[0], 1.25);
  r.stalls = {{1.125, 1.25, 0, "", Trace::PlanPosition{0, StepIndex{1}}}};
  EXPECT_DOUBLE_EQ(measure(r, 0).step_seconds[0], 1.125);
}

TEST(MeasuredPlan, StepsThatWereNotRunHaveTheMeanOfTheOthers) {
  Recording r = measured_recording();
  r.plans[0].plan.steps.push_back({.reads = {{{}, kPage}}});
  const MeasuredPlan m = measure(r, 0);
  EXPECT_EQ(m.steps_measured, 2U);
  EXPECT_DOUBLE_EQ(m.step_seconds[2], (1 + 2 + 1.5 + 2.5) / 4);
}

// A page a second, in no time to begin with.
constexpr prediction::MachineModel kSlow{.link = 4096, .copy_latency = 0, .map = 0};

TEST(WhatIf, GoesFromTheSmallestArenaToAllPages) {
  const WhatIf w = what_if(measured_recording(), 0, kSlow, 12);
  EXPECT_EQ(w.why_not, "");
  ASSERT_EQ(w.points.size(), 3U);  // 2, 3 and 4 pages
  EXPECT_EQ(w.points.front().frames, 2U);
  EXPECT_EQ(w.points.back().frames, 4U);
  EXPECT_EQ(w.points[w.own].frames, 3U);
  // All resident, a pass takes its steps; the first has four pages to copy before its last step.
  EXPECT_DOUBLE_EQ(w.points.back().warm.seconds, 1.25 + 2.25);
  EXPECT_EQ(w.points.back().warm.copied, Bytes{});
  EXPECT_DOUBLE_EQ(w.points.back().cold.seconds, 4 + 2.25);
  // With room for one step, the second's pages are copied when the first is done.
  EXPECT_DOUBLE_EQ(w.points.front().cold.seconds, 2 + 1.25 + 2 + 2.25);
}

TEST(WhatIf, SaysWhyThereIsNoPrediction) {
  Recording r = measured_recording();
  EXPECT_THAT(what_if(r, 0, {}, 12).why_not, HasSubstr("nothing was copied"));
  r.plans[0].plan.steps[0].choices = {{{}, kPage}};
  EXPECT_THAT(what_if(r, 0, kSlow, 12).why_not, HasSubstr("chosen at run time"));
  EXPECT_THAT(what_if(recording(), 0, kSlow, 12).why_not, HasSubstr("no step"));
}

// --- The page

// Names come from files: whatever they say, the script element that holds them ends where it
// should.
TEST(PageText, NamesCannotEndTheScript) {
  const auto elements = [](const std::string& name) {
    const std::string page = report_page({{"parts", {name}}});
    std::size_t count = 0;
    for (auto at = page.find('<'); at != std::string::npos; at = page.find('<', at + 1)) ++count;
    return count;
  };
  const std::size_t plain = elements("blk.0.weight");
  EXPECT_EQ(elements("</script><script>alert(1)</script>"), plain);
  EXPECT_EQ(elements("<!--<script>"), plain);
  EXPECT_THAT(report_page({{"parts", {"{{STYLE}}{{MAIN}}"}}}), HasSubstr("{{STYLE}}{{MAIN}}"));
}

TEST(PageText, AsksNobodyForAnything) {
  const std::string page = report_page(nlohmann::ordered_json::object());
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  for (const char* place : {"{{STYLE}}", "{{DATA}}", "{{MAIN}}", "innerHTML", " src=", "<link"}) {
    EXPECT_THAT(page, testing::Not(HasSubstr(place)));
  }
}

}  // namespace
}  // namespace tensor_pager::pager_stats
