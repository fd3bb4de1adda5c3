// SPDX-License-Identifier: Apache-2.0
// What the core decides in situations that are worth naming. Everything else is the simulator's.
#include "core/core.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

#include "immediate_driver.hpp"
#include "pager/errors.hpp"

namespace tensor_pager::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr CallerId kCaller{0};
constexpr CallerId kOtherCaller{1};

CoreOptions options(std::uint32_t pages, std::uint32_t frames, PolicyOptions policy = {}) {
  return {.layout = {kTestPage * pages, kTestPage},
          .frames = frames,
          .policy = policy,
          .pages_per_copy = 16,
          .unmap_on_evict = false,
          .host_pages_ready = true};
}

std::vector<std::uint32_t> finish_copies(Core& core) {
  std::vector<std::uint32_t> pages;
  for (const PageRun& run : core.take_commands().copies) {
    for (std::uint32_t k = 0; k < run.count; ++k) pages.push_back(run.first.value + k);
  }
  for (const std::uint32_t page : pages) core.copy_finished({page});
  return pages;
}

ByteRange page(std::uint32_t index) {
  return {kTestPage * index, kTestPage};
}

LeaseId acquire_page(Core& core, std::uint32_t index, CallerId caller = kCaller) {
  const ByteRange range = page(index);
  return core.acquire(std::span(&range, 1), caller);
}

TEST(Core, PrefetchStartsWithThePlanAndStopsAtTheDepth) {
  Core core(options(8, 8, {.window = kWholePass, .prefetch_depth = 3}));
  core.set_plan(plan_of_pages({{0}, {1}, {2}, {3}, {4}, {5}}));
  EXPECT_THAT(finish_copies(core), ElementsAre(0, 1, 2));
  const LeaseId lease = core.acquire(StepIndex{0}, {}, kCaller);
  EXPECT_EQ(core.state(lease), LeaseState::ready);
  EXPECT_THAT(finish_copies(core), ElementsAre(3));
  EXPECT_EQ(core.counters().prefetched, 1U);
}

TEST(Core, WindowBoundsHowFarAheadPagesAreBroughtIn) {
  Core core(options(8, 8, {.window = 1, .prefetch_depth = 3}));
  core.set_plan(plan_of_pages({{0}, {1}, {2}, {3}}));
  EXPECT_THAT(finish_copies(core), ElementsAre(0));
  core.acquire(StepIndex{0}, {}, kCaller);
  EXPECT_THAT(finish_copies(core), ElementsAre(1));
}

TEST(Core, NeighbouringPagesAreOneCopy) {
  Core core(options(8, 8));
  const ByteRange range{kTestPage * 2, kTestPage * 4};
  core.acquire(std::span(&range, 1), kCaller);
  EXPECT_THAT(core.take_commands().copies, ElementsAre(PageRun{{2}, 4}));
}

TEST(Core, FencedPageIsNotEvictedUntilItsWorkHasPassed) {
  Core core(options(4, 1));
  const LeaseId first = acquire_page(core, 0);
  finish_copies(core);
  core.release(first, FenceId{7});
  const LeaseId second = acquire_page(core, 1);
  EXPECT_TRUE(core.take_commands().empty());
  EXPECT_EQ(core.state(second), LeaseState::queued);
  core.fence_passed(FenceId{7});
  EXPECT_THAT(finish_copies(core), ElementsAre(1));
  EXPECT_EQ(core.state(second), LeaseState::ready);
}

TEST(Core, PageThatReturnsToItsFrameIsNotRemapped) {
  Core core(options(4, 1));
  for (const std::uint32_t index : {0U, 1U, 0U, 1U}) {
    const LeaseId lease = acquire_page(core, index);
    finish_copies(core);
    core.release(lease, std::nullopt);
  }
  EXPECT_EQ(core.counters().loads, 4U);
  EXPECT_EQ(core.counters().remaps, 2U);
}

TEST(Core, PageGivenUpIsTakenBackWhileItsFrameWaitsInLimbo) {
  // Two pages used in turn fit two frames, although the policy may keep only one and loads ahead
  // with the other.
  Core core(options(2, 2, {.window = kWholePass, .prefetch_depth = 1}));
  core.set_plan(plan_of_pages({{0}, {1}}));
  for (int pass = 0; pass < 5; ++pass) {
    for (std::uint32_t step = 0; step < 2; ++step) {
      const LeaseId lease = core.acquire(StepIndex{step}, {}, kCaller);
      finish_copies(core);
      core.release(lease, std::nullopt);
    }
  }
  EXPECT_EQ(core.counters().loads, 2U);
}

TEST(Core, StepThatDoesNotFitNamesTheMinimum) {
  Core core(options(8, 3));
  try {
    core.set_plan(plan_of_pages({{0}, {1, 2, 3, 4, 5}}));
    FAIL();
  } catch (const BudgetError& error) {
    EXPECT_EQ(error.minimum(), kTestPage * 5);
  }
  core.set_budget(5, kCaller);
  core.set_plan(plan_of_pages({{0}, {1, 2, 3, 4, 5}}));
  EXPECT_THROW(core.set_budget(4, kCaller), BudgetError);
}

TEST(Core, AcquireWaitsForAnotherStreamsLease) {
  Core core(options(4, 1));
  const LeaseId held = acquire_page(core, 0, kCaller);
  finish_copies(core);
  const LeaseId waiting = acquire_page(core, 1, kOtherCaller);
  EXPECT_EQ(core.state(waiting), LeaseState::blocked);
  core.release(held, std::nullopt);
  finish_copies(core);
  EXPECT_EQ(core.state(waiting), LeaseState::ready);
}

TEST(Core, StreamThatWouldWaitForItselfIsTold) {
  Core core(options(4, 1));
  acquire_page(core, 0);
  finish_copies(core);
  const LeaseId second = acquire_page(core, 1);
  EXPECT_EQ(core.state(second), LeaseState::failed);
  EXPECT_THAT(core.failure(second), ::testing::HasSubstr("release leases earlier"));
}

TEST(Core, LeaseHeldLongDoesNotStopThePass) {
  Core core(options(8, 4, {.window = kWholePass, .prefetch_depth = 2}));
  core.set_plan(plan_of_pages({{0}, {1}, {2}, {3}, {4}, {5}}));
  const LeaseId held = core.acquire(StepIndex{0}, {}, kCaller);
  finish_copies(core);
  for (std::uint32_t step = 1; step < 18; ++step) {
    const LeaseId lease = core.acquire(StepIndex{step % 6}, {}, kCaller);
    while (core.has_commands()) finish_copies(core);
    ASSERT_EQ(core.state(lease), LeaseState::ready) << "step " << step;
    ASSERT_EQ(core.state(held), LeaseState::ready);
    core.release(lease, std::nullopt);
    core.check_invariants();
  }
}

TEST(Core, FailedCopyFailsThoseWhoNeedThePageAndIsTriedAgainOnDemandOnly) {
  Core core(options(4, 4, {.window = kWholePass, .prefetch_depth = 2}));
  core.set_plan(plan_of_pages({{0}, {1}, {2}}));
  core.take_commands();  // copies of pages 0 and 1
  core.copy_finished({0});
  core.copy_failed({1}, "unplugged");
  EXPECT_THAT(core.take_commands().copies, IsEmpty())
      << "a prefetch that failed is not repeated for ever";
  core.release(core.acquire(StepIndex{0}, {}, kCaller), std::nullopt);
  core.take_commands();
  const LeaseId lease = core.acquire(StepIndex{1}, {}, kCaller);
  EXPECT_EQ(core.state(lease), LeaseState::loading) << "an acquire tries again";
  core.copy_failed({1}, "unplugged");
  EXPECT_EQ(core.state(lease), LeaseState::failed);
  EXPECT_EQ(core.failure(lease), "unplugged");
  core.release(lease, std::nullopt);
  core.check_invariants();
}

TEST(Core, StepsMayBeSkipped) {
  Core core(options(8, 4, {.window = kWholePass, .prefetch_depth = 2}));
  core.set_plan(plan_of_pages({{0}, {1}, {2}, {3}, {4}}));
  finish_copies(core);
  core.release(core.acquire(StepIndex{0}, {}, kCaller), std::nullopt);
  const LeaseId lease = core.acquire(StepIndex{4}, {}, kCaller);
  while (core.has_commands()) finish_copies(core);
  EXPECT_EQ(core.state(lease), LeaseState::ready);
  core.check_invariants();
}

TEST(Core, StepChosenAtRunTimeBringsInWhatWasChosen) {
  Core core(options(8, 4, {.window = kWholePass, .prefetch_depth = 2}));
  AccessPlan plan = plan_of_pages({{0}, {1}});
  plan.steps[1].choices = {page(4), page(5), page(6)};
  plan.steps[1].choose_at_most = 1;
  core.set_plan(plan);
  EXPECT_THAT(finish_copies(core), ElementsAre(0))
      << "nothing is brought in beyond a step that is not known";
  core.release(core.acquire(StepIndex{0}, {}, kCaller), std::nullopt);
  const ByteRange chosen = page(5);
  const LeaseId lease = core.acquire(StepIndex{1}, std::span(&chosen, 1), kCaller);
  EXPECT_THAT(core.pages(lease), ElementsAre(PageIndex{1}, PageIndex{5}));
}

TEST(Core, ShrinkingWaitsForWorkAndGrowingIsAtOnce) {
  Core core(options(8, 4));
  std::vector<LeaseId> leases;
  for (std::uint32_t i = 0; i < 4; ++i) leases.push_back(acquire_page(core, i));
  finish_copies(core);
  core.set_budget(2, kOtherCaller);
  EXPECT_EQ(core.budget_state(), BudgetState::waiting);
  EXPECT_EQ(core.frames(), 4U);
  for (const LeaseId lease : leases) core.release(lease, std::nullopt);
  EXPECT_EQ(core.frames(), 2U);
  core.set_budget(6, kCaller);
  EXPECT_EQ(core.frames(), 6U);
  core.check_invariants();
}

TEST(Core, UnmapOnEvictLeavesNoStaleAddress) {
  CoreOptions debug = options(4, 1);
  debug.unmap_on_evict = true;
  Core core(debug);
  core.release(acquire_page(core, 0), std::nullopt);
  finish_copies(core);
  acquire_page(core, 1);
  const Commands commands = core.take_commands();
  ASSERT_EQ(commands.remaps.size(), 2U);
  EXPECT_EQ(std::get<UnmapPage>(commands.remaps[0]).page, PageIndex{0});
  EXPECT_EQ(std::get<MapPage>(commands.remaps[1]).page, PageIndex{1});
}

TEST(Core, CallerThatHoldsWhatItWaitsForIsToldWhateverItsStreams) {
  Core core(options(8, 2));
  acquire_page(core, 0);
  finish_copies(core);
  const ByteRange two{kTestPage * 2, kTestPage * 2};
  const LeaseId second = core.acquire(std::span(&two, 1), kCaller);
  EXPECT_EQ(core.state(second), LeaseState::failed);
  EXPECT_THAT(core.failure(second), ::testing::HasSubstr("still held pin 1 page"));
}

TEST(Core, CallersThatWaitForEachOtherAreTold) {
  Core core(options(8, 2));
  const LeaseId first = acquire_page(core, 0, kCaller);
  acquire_page(core, 1, kOtherCaller);
  finish_copies(core);
  const LeaseId waiting = acquire_page(core, 2, kCaller);
  EXPECT_EQ(core.state(waiting), LeaseState::blocked) << "the other caller may still release";
  const LeaseId newest = acquire_page(core, 3, kOtherCaller);
  EXPECT_EQ(core.state(newest), LeaseState::failed);
  EXPECT_EQ(core.state(waiting), LeaseState::blocked);
  core.release(newest, std::nullopt);
  core.release(first, std::nullopt);
}

TEST(Core, FramesAreCreatedBeforeTheBudgetGrows) {
  Core core(options(8, 2));
  EXPECT_THAT(core.frames_to_create(2), IsEmpty());
  EXPECT_THAT(core.frames_to_create(4), ElementsAre(FrameIndex{2}, FrameIndex{3}));
  core.set_budget(4, kCaller);
  EXPECT_EQ(core.budget_state(), BudgetState::done);
  EXPECT_EQ(core.frames(), 4U);
  core.set_budget(1, kCaller);
  EXPECT_EQ(core.frames(), 1U);
  EXPECT_EQ(core.frames_to_create(5).size(), 4U);
  for (const FrameIndex frame : core.frames_to_create(5)) EXPECT_LT(frame.value, 5U);
}

TEST(Core, BudgetThatItsCallerHoldsIsPutBack) {
  Core core(options(8, 4));
  std::vector<LeaseId> leases;
  for (std::uint32_t i = 0; i < 3; ++i) leases.push_back(acquire_page(core, i));
  finish_copies(core);
  core.set_budget(2, kCaller);
  EXPECT_EQ(core.budget_state(), BudgetState::failed);
  EXPECT_THAT(core.budget_failure(), ::testing::HasSubstr("release leases first"));
  EXPECT_EQ(core.budget(), 3U) << "the frame that was free is gone already";
  core.release(leases[0], std::nullopt);
  core.set_budget(2, kCaller);
  EXPECT_EQ(core.budget_state(), BudgetState::done);
  core.check_invariants();
}

TEST(Core, BudgetFailsIfWhoeverHoldsPagesWaitsToo) {
  Core core(options(8, 2));
  acquire_page(core, 0, kCaller);
  acquire_page(core, 1, kOtherCaller);
  finish_copies(core);
  core.set_budget(1, kCaller);
  EXPECT_EQ(core.budget_state(), BudgetState::waiting) << "the other caller may still release";
  const LeaseId waiting = acquire_page(core, 2, kOtherCaller);
  EXPECT_EQ(core.budget_state(), BudgetState::failed);
  EXPECT_EQ(core.state(waiting), LeaseState::blocked) << "the first caller goes on";
}

TEST(Core, LeaseOfThePlanHeldByAnotherLeaseTooDoesNotStopThePass) {
  Core core(options(9, 4, {.window = kWholePass, .prefetch_depth = 2}));
  core.set_plan(plan_of_pages({{0}, {1}, {2}, {3}, {4}, {5}}));
  finish_copies(core);
  const LeaseId step = core.acquire(StepIndex{0}, {}, kCaller);
  finish_copies(core);
  acquire_page(core, 0, kOtherCaller);
  core.release(step, std::nullopt);
  for (std::uint32_t i = 1; i < 18; ++i) {
    const LeaseId lease = core.acquire(StepIndex{i % 6}, {}, kCaller);
    while (core.has_commands()) finish_copies(core);
    ASSERT_EQ(core.state(lease), LeaseState::ready) << "step " << i;
    core.release(lease, std::nullopt);
    while (core.has_commands()) finish_copies(core);
  }
  EXPECT_EQ(core.counters().late, 0U) << "planning ahead goes on";
  EXPECT_LE(core.counters().rollbacks, 2U);
}

TEST(Core, HintBringsPagesInOnlyWhereNothingBetterIs) {
  Core core(options(12, 4, {.window = kWholePass, .prefetch_depth = 1}));
  core.set_plan(plan_of_pages({{0}, {1}, {2}}));
  finish_copies(core);
  const ByteRange range{kTestPage * 8, kTestPage * 4};
  const auto rollbacks = core.counters().rollbacks;
  core.prefetch(std::span(&range, 1));
  const auto copied = finish_copies(core);
  EXPECT_THAT(copied, ElementsAre(8, 9, 10)) << "page 0 is promised to the next step";
  EXPECT_EQ(core.counters().rollbacks, rollbacks);
  const LeaseId lease = acquire_page(core, 9);
  EXPECT_EQ(core.state(lease), LeaseState::ready);
  EXPECT_EQ(core.counters().prefetched, 1U);
}

/// Passes over `cycle` pages of which a third fits, five pages a step, with something between
/// steps.
template <class Between>
CoreCounters cyclic_passes(std::uint32_t cycle, int passes, Between between) {
  std::vector<std::vector<std::uint32_t>> steps;
  for (std::uint32_t page = 0; page < cycle; page += 5)
    steps.push_back({page, page + 1, page + 2, page + 3, page + 4});
  ImmediateDriver driver(cycle + 8, cycle / 3, {});
  driver.core().set_plan(plan_of_pages(steps));
  for (int pass = 0; pass < passes; ++pass) {
    for (std::uint32_t step = 0; step < steps.size(); ++step) {
      driver.use(StepIndex{step});
      between(driver, pass);
    }
  }
  driver.settle();
  driver.core().check_invariants();
  return driver.core().counters();
}

void use_pages(ImmediateDriver& driver, std::uint32_t first, std::uint32_t count) {
  const ByteRange range{kTestPage * first, kTestPage * count};
  driver.use(driver.core().acquire(std::span(&range, 1), kCaller));
}

TEST(Core, ResidentPagesAcquiredBetweenStepsCostNoCopies) {
  const CoreCounters without = cyclic_passes(640, 4, [](ImmediateDriver&, int) {});
  const CoreCounters with = cyclic_passes(640, 4, [](ImmediateDriver& driver, int) {
    std::uint32_t page = 639;
    while (!driver.core().resident({page})) --page;
    use_pages(driver, page, 1);
  });
  EXPECT_EQ(with.loads, without.loads);
  EXPECT_EQ(with.rollbacks, without.rollbacks);
  EXPECT_EQ(with.late, without.late);
}

TEST(Core, PageUsedAtEveryStepOutsideThePlanIsKept) {
  const CoreCounters without = cyclic_passes(640, 4, [](ImmediateDriver&, int) {});
  const CoreCounters with =
      cyclic_passes(640, 4, [](ImmediateDriver& driver, int) { use_pages(driver, 640, 2); });
  EXPECT_LE(with.loads, without.loads + 4 * 2 + 4) << "two frames less, and the two pages";
  EXPECT_EQ(with.rollbacks, without.rollbacks);
}

struct Trace {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> steps;  // caller, step
};

/// Three callers that each walk the plan, taking turns or at random.
Trace walks(std::uint32_t steps, std::uint32_t passes, bool in_turn, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::uint32_t> at(3);
  Trace trace;
  while (trace.steps.size() < std::size_t{3} * steps * passes) {
    const auto caller = static_cast<std::uint32_t>(in_turn ? trace.steps.size() % 3 : random() % 3);
    if (at[caller] == steps * passes) continue;
    trace.steps.emplace_back(caller, at[caller]++ % steps);
  }
  return trace;
}

CoreCounters replay(const Trace& trace, const std::vector<std::vector<std::uint32_t>>& steps,
                    std::uint32_t pages, std::uint32_t frames, std::uint32_t window) {
  ImmediateDriver driver(pages, frames, {.window = window});
  driver.core().set_plan(plan_of_pages(steps));
  for (const auto& [caller, step] : trace.steps)
    driver.use(driver.core().acquire(StepIndex{step}, {}, CallerId{caller}));
  driver.settle();
  driver.core().check_invariants();
  return driver.core().counters();
}

TEST(Core, SeveralWalkersCopyLessThanWithoutAPlan) {
  std::vector<std::vector<std::uint32_t>> steps;
  for (std::uint32_t page = 0; page < 200; page += 4)
    steps.push_back({page, page + 1, page + 2, page + 3});
  std::uint64_t total_planned = 0;
  std::uint64_t total_unplanned = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Trace trace = walks(50, 4, /*in_turn=*/seed == 0, seed);
    const CoreCounters planned = replay(trace, steps, 200, 50, kWholePass);
    const CoreCounters unplanned = replay(trace, steps, 200, 50, 0);
    EXPECT_LE(planned.loads, unplanned.loads) << "seed " << seed;
    total_planned += planned.loads;
    total_unplanned += unplanned.loads;
    EXPECT_LE(planned.rollbacks, 8U) << "seed " << seed;
  }
  EXPECT_LE(total_planned * 10, total_unplanned * 8) << "where each will be next is known";
}

TEST(Core, CallersThatTakeTurnsAtTheStepsAreOneWalk) {
  Core core(options(8, 4, {.window = kWholePass, .prefetch_depth = 2}));
  core.set_plan(plan_of_pages({{0}, {1}, {2}, {3}, {4}}));
  for (std::uint32_t i = 0; i < 20; ++i) {
    const LeaseId lease = core.acquire(StepIndex{i % 5}, {}, i % 3 == 0 ? kCaller : kOtherCaller);
    while (core.has_commands()) finish_copies(core);
    core.release(lease, std::nullopt);
    EXPECT_FALSE(core.several_walkers());
  }
  EXPECT_LE(core.counters().rollbacks, 1U);
}

TEST(Core, SeveralWalkersEndWhenOneWalksAWholePassAlone) {
  Core core(options(8, 4, {.window = kWholePass, .prefetch_depth = 2}));
  core.set_plan(plan_of_pages({{0}, {1}, {2}, {3}, {4}}));
  const auto step = [&](std::uint32_t index, CallerId caller) {
    const LeaseId lease = core.acquire(StepIndex{index}, {}, caller);
    while (core.has_commands()) finish_copies(core);
    core.release(lease, std::nullopt);
  };
  step(0, kCaller);
  step(0, kOtherCaller);
  EXPECT_FALSE(core.several_walkers());
  step(1, kCaller);
  step(1, kOtherCaller);
  EXPECT_TRUE(core.several_walkers());
  EXPECT_EQ(core.prefetch_frames(), 0U);
  for (std::uint32_t i = 0; i < 6; ++i) {
    EXPECT_EQ(core.several_walkers(), i < 5) << i;
    step((2 + i) % 5, kCaller);
  }
  EXPECT_FALSE(core.several_walkers());
  EXPECT_EQ(core.prefetch_frames(), 2U);
}

/// 240 pages in steps of three to five.
std::vector<std::vector<std::uint32_t>> uneven_steps() {
  std::vector<std::vector<std::uint32_t>> steps;
  for (std::uint32_t page = 0; page < 240;) {
    steps.emplace_back();
    const std::uint32_t count = 3 + static_cast<std::uint32_t>(steps.size() % 3);
    while (steps.back().size() < count && page < 240) steps.back().push_back(page++);
  }
  return steps;
}

void pass(ImmediateDriver& driver, std::size_t steps) {
  for (std::uint32_t step = 0; step < steps; ++step) driver.use(StepIndex{step});
}

TEST(Core, PassThatRepeatsChangesNoMappings) {
  const auto steps = uneven_steps();
  for (const std::uint32_t percent : {5U, 25U, 50U, 90U, 100U}) {
    for (std::uint64_t timing = 0; timing < 4; ++timing) {
      ImmediateDriver driver(250, 240 * percent / 100, {});
      if (timing != 0) driver.delay_randomly(timing);
      driver.core().set_plan(plan_of_pages(steps));
      EXPECT_TRUE(driver.core().homes()) << percent << "%";
      driver.settle();
      const std::uint64_t at_first = driver.remaps();
      EXPECT_EQ(at_first, 240U);
      pass(driver, steps.size());
      pass(driver, steps.size());
      driver.settle();
      driver.core().evict_all();
      pass(driver, steps.size());
      driver.core().set_plan(plan_of_pages(steps));
      pass(driver, steps.size());
      driver.settle();
      EXPECT_EQ(driver.remaps(), at_first) << percent << "%, timing " << timing;
      driver.core().check_invariants();
    }
  }
}

TEST(Core, PlanWithTheSameOrderOfPagesKeepsMappingsAndPages) {
  const auto decode = uneven_steps();
  std::vector<std::vector<std::uint32_t>> prefill;  // each step twice
  for (const auto& step : decode) prefill.insert(prefill.end(), 2, step);
  ImmediateDriver driver(240, 60, {});
  driver.core().set_plan(plan_of_pages(prefill));
  for (int i = 0; i < 2; ++i) pass(driver, prefill.size());
  driver.settle();
  const std::uint64_t remaps = driver.remaps();
  const std::uint64_t loads = driver.core().counters().loads;
  driver.core().set_plan(plan_of_pages(decode));
  for (int i = 0; i < 2; ++i) pass(driver, decode.size());
  driver.settle();
  EXPECT_EQ(driver.remaps(), remaps);
  EXPECT_LE(driver.core().counters().loads - loads, 2U * (240 - 50) + 10);
}

TEST(Core, PageOutsideThePlanComesAndItsGuestReturnsHome) {
  const auto steps = uneven_steps();
  ImmediateDriver driver(250, 60, {});
  driver.core().set_plan(plan_of_pages(steps));
  pass(driver, steps.size());
  driver.settle();
  const std::uint64_t remaps = driver.remaps();
  for (std::uint32_t page = 240; page < 245; ++page) use_pages(driver, page, 1);
  const std::uint64_t loads = driver.core().counters().loads;
  for (int i = 0; i < 3; ++i) pass(driver, steps.size());
  driver.settle();
  EXPECT_LE(driver.core().counters().loads - loads, 3U * (240 - 50) + 10);
  const std::uint64_t returned = driver.remaps();
  EXPECT_LE(returned - remaps, 5U + 10) << "five came, and hardly any page had to go elsewhere";
  pass(driver, steps.size());
  EXPECT_EQ(driver.remaps(), returned);
}

TEST(Core, BudgetChangesMoveOnlyWhatMustMove) {
  const auto steps = uneven_steps();
  ImmediateDriver driver(240, 60, {});
  driver.core().set_plan(plan_of_pages(steps));
  for (const std::uint32_t budget : {80U, 50U, 240U, 60U}) {
    for (int i = 0; i < 2; ++i) pass(driver, steps.size());
    driver.core().set_budget(budget, kCaller);
    driver.settle();
    ASSERT_EQ(driver.core().budget_state(), BudgetState::done);
    const std::uint64_t remaps = driver.remaps();
    for (int i = 0; i < 2; ++i) pass(driver, steps.size());
    driver.settle();
    EXPECT_LE(driver.remaps() - remaps, 60U) << "pages that were elsewhere move when they come in";
    const std::uint64_t settled = driver.remaps();
    for (int i = 0; i < 2; ++i) pass(driver, steps.size());
    EXPECT_EQ(driver.remaps(), settled);
    driver.core().check_invariants();
  }
}

}  // namespace
}  // namespace tensor_pager::testing
