// SPDX-License-Identifier: Apache-2.0
// What pager_sim predicts, against what must be and against a pager that really copies.
#include "prediction/prediction.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <vector>

#include "pager/host_device.hpp"
#include "pager/memory_store.hpp"
#include "pager/pager.hpp"

namespace tensor_pager::prediction {
namespace {

constexpr Bytes kPage = KiB(4);

// Steps of two pages each, one after another.
AccessPlan walk(std::uint32_t pages) {
  AccessPlan plan;
  for (std::uint32_t page = 0; page < pages; page += 2) {
    plan.steps.push_back({.reads = {{kPage * page, kPage * 2}}});
  }
  return plan;
}

CoreOptions core(std::uint32_t pages, std::uint32_t frames, std::uint32_t window = kWholePass) {
  CoreOptions options{.layout = {kPage * pages, kPage}};
  options.frames = frames;
  options.policy.window = window;
  options.pages_per_copy = pages_per_copy(kPage);
  return options;
}

// Pages per second.
MachineModel link(double pages) {
  return {.link = pages * static_cast<double>(kPage.count), .copy_latency = 0, .map = 0};
}

TEST(Prediction, ColdPassTakesTheLargerOfLinkAndArithmetic) {
  const AccessPlan plan = walk(200);
  const auto seconds = [&](double step) {
    return predict(core(200, 40), plan, std::vector<double>(100, step), link(100), 0, 1).seconds;
  };
  EXPECT_NEAR(seconds(0.001), 2.0, 0.05);  // 200 pages over a link of 100 a second
  EXPECT_NEAR(seconds(0.05), 5.0, 0.05);   // 100 steps
}

TEST(Prediction, ResidentPassTakesItsArithmeticAlone) {
  const Prediction p =
      predict(core(200, 200), walk(200), std::vector<double>(100, 0.01), link(1), 1, 2);
  EXPECT_NEAR(p.seconds, 2.0, 1e-9);
  EXPECT_EQ(p.copied, Bytes{0});
  EXPECT_EQ(p.hits, p.accesses);
  EXPECT_EQ(p.stalled, 0);
}

// With half of the pages kept, and kept all over the pass, link and arithmetic overlap everywhere.
TEST(Prediction, HalfResidentPassOverlapsLinkAndArithmetic) {
  const Prediction p =
      predict(core(400, 200), walk(400), std::vector<double>(200, 0.01), link(100), 1, 3);
  EXPECT_LT(p.seconds, 1.1 * 3 * 200 * 0.01);
  EXPECT_GT(static_cast<double>(p.hits), 0.45 * static_cast<double>(p.accesses));
}

TEST(Prediction, PlainLruHitsNothingInACycle) {
  const Prediction p =
      predict(core(100, 60, 0), walk(100), std::vector<double>(50, 0.01), link(1000), 1, 2);
  EXPECT_EQ(p.hits, 0U);
  EXPECT_EQ(p.copied, kPage * 200);
}

TEST(Prediction, CopiesWhatAPagerCopies) {
  constexpr std::uint32_t kPages = 90;
  const std::vector<std::byte> image(kPage.count * kPages);
  for (const std::uint32_t frames : {6U, 20U, 45U, 80U, 90U}) {
    Pager pager(make_host_device(), std::make_shared<MemoryStore>(image),
                {.arena = kPage * frames, .page = kPage});
    pager.set_plan(walk(kPages));
    for (int pass = 0; pass < 3; ++pass) {
      for (std::uint32_t step = 0; step < kPages / 2; ++step) pager.acquire(StepIndex{step});
    }
    pager.settle();
    const Statistics real = pager.statistics();
    const Prediction predicted = predict(core(kPages, frames), walk(kPages),
                                         std::vector<double>(kPages / 2, 1e-5), link(1e5), 0, 3);
    EXPECT_EQ(predicted.copied, real.core.loaded) << frames << " frames";
    EXPECT_EQ(predicted.optimal, real.core.optimal) << frames << " frames";
    EXPECT_EQ(predicted.accesses, real.core.accesses) << frames << " frames";
  }
}

// Every other step is the host's: 0.1 s, in which ten pages come in, for 0.01 s of the stream.
TEST(Prediction, CopiesGoOnWhileTheHostComputes) {
  std::vector<TimedStep> steps;
  for (int i = 0; i < 100; ++i) {
    steps.push_back({.seconds = 0.01});
    steps.push_back({.seconds = 0.1, .in_plan = false});
  }
  CoreOptions options = core(200, 40);
  options.policy.prefetch_depth = 30;
  const Prediction p = predict(options, walk(200), steps, link(100), 1, 2);
  EXPECT_NEAR(p.seconds, 2 * 100 * 0.11, 0.3);
  EXPECT_LT(p.stalled, 0.3);
  EXPECT_NEAR(p.link_busy, 2 * 1.9, 0.1);
}

// The host is not there to go on while it computes, and what the stream does then it does before.
TEST(Prediction, TheHostsStepsAreInTheirPlace) {
  const std::vector<TimedStep> steps = {
      {.seconds = 1}, {.seconds = 5, .in_plan = false}, {.seconds = 1}};
  const Prediction p = predict(core(4, 4), walk(4), steps, link(2), 0, 1);
  // Two pages before the first step, two beside it and the host's.
  EXPECT_NEAR(p.seconds, 1 + 1 + 5 + 1, 1e-9);
  EXPECT_NEAR(p.stalled, 1, 1e-9);
}

// The stream works or waits for pages: the host is never what it waits for.
TEST(Prediction, TimeIsWorkAndStalls) {
  for (const std::uint32_t frames : {6U, 20U, 45U, 80U, 90U}) {
    for (const double step : {1e-3, 0.01, 0.05}) {
      for (const std::uint32_t window : {0U, 5U, kWholePass}) {
        const Prediction p = predict(core(90, frames, window), walk(90),
                                     std::vector<double>(45, step), link(100), 1, 2);
        const double work = 2 * 45 * step;
        EXPECT_LE(p.stalled, p.seconds - work + 1e-9) << frames << " frames, " << step << " s";
        EXPECT_GE(p.stalled, 0);
        EXPECT_NEAR(p.stalled, p.seconds - work, 1e-9)
            << frames << " frames, " << step << " s, window " << window;
        EXPECT_LE(p.link_busy, p.seconds + 1e-9 + 0.01 * frames);
      }
    }
  }
}

// What the passes before have left is there, and what another plan displaced is copied again.
TEST(Prediction, TheLastPhaseBeginsWithWhatOthersLeft) {
  const auto part = [](std::uint32_t first, std::uint32_t pages) {
    AccessPlan plan;
    for (std::uint32_t page = first; page < first + pages; ++page) {
      plan.steps.push_back({.reads = {{kPage * page, kPage}}});
    }
    return plan;
  };
  const auto phase = [&](std::uint32_t first, std::uint32_t pages, std::uint32_t passes) {
    return Phase{part(first, pages), std::vector<TimedStep>(pages, TimedStep{.seconds = 0.01}),
                 passes};
  };
  const auto last = [&](const std::vector<Phase>& phases) {
    return predict_last(core(100, 50), phases, link(100));
  };
  EXPECT_EQ(last({phase(0, 40, 1)}).loads, 40U);
  EXPECT_EQ(last({phase(0, 40, 1), phase(0, 40, 3)}).loads, 0U);
  EXPECT_EQ(last({phase(0, 40, 1), phase(30, 20, 1)}).loads, 10U);
  // All of the arena went to the others.
  EXPECT_EQ(last({phase(0, 40, 1), phase(40, 50, 1), phase(0, 40, 2)}).loads, 40U);
  const Prediction p = last({phase(0, 40, 1), phase(40, 50, 1), phase(0, 40, 2)});
  EXPECT_NEAR(p.seconds, 2 * 0.4 + p.stalled, 1e-9);
}

// One thread commands them, so that copies cannot come faster than their pages are mapped.
TEST(Prediction, MappingsAreMadeOneAfterAnother) {
  MachineModel machine = link(1e6);
  machine.map = 0.02;
  const Prediction p =
      predict(core(100, 60, 0), walk(100), std::vector<double>(50, 1e-6), machine, 1, 2);
  EXPECT_EQ(p.loads, 200U);
  EXPECT_NEAR(p.mapping, 200 * 0.02, 1e-9);
  EXPECT_NEAR(p.seconds, 200 * 0.02, 0.1);
}

TEST(Prediction, EachStepOfThePlanNeedsATime) {
  const std::vector<TimedStep> steps(3, TimedStep{.seconds = 1});
  EXPECT_THROW(predict(core(4, 4), walk(4), steps, link(2), 0, 1), std::invalid_argument);
}

TEST(Prediction, TooSmallAnArenaIsRefused) {
  EXPECT_THROW(predict(core(10, 1), walk(10), std::vector<double>(5, 1), link(1), 0, 1),
               BudgetError);
}

}  // namespace
}  // namespace tensor_pager::prediction
