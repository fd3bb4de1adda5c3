// SPDX-License-Identifier: Apache-2.0
#include "simulator.hpp"

#include <gtest/gtest.h>

#include <exception>

namespace tensor_pager::testing {
namespace {

class SimulatorTest : public ::testing::TestWithParam<Subject> {};

/// 1,000 seeds of 1,000 events: what every CI run does. `core_simulator` runs more.
TEST_P(SimulatorTest, FindsNoViolation) {
  constexpr std::uint64_t kEvents = 1000;
  SimulationResult total;
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    try {
      const SimulationResult result = simulate(GetParam(), seed, kEvents);
      total.events += result.events;
      total.leases += result.leases;
      total.copies += result.copies;
      total.failures += result.failures;
      total.refused_budgets += result.refused_budgets;
      total.rings += result.rings;
      total.several_walkers += result.several_walkers;
    } catch (const std::exception& error) {
      FAIL() << "seed " << seed << ": " << error.what()
             << "\nreplay with: " << replay_command(GetParam(), seed, kEvents);
    }
  }
  // The simulation is only worth something if it gets to the interesting places.
  EXPECT_GT(total.events, 900 * kEvents);  // all of them, but where a device failed for good
  EXPECT_GT(total.leases, total.events / 15);
  EXPECT_GT(total.copies, total.events / 40);
  EXPECT_GT(total.failures, 1000U);
  if (GetParam() == Subject::driver) return;
  EXPECT_GT(total.refused_budgets, 100U);
  EXPECT_GT(total.rings, total.events / 100) << "events with pages that share a home";
  EXPECT_GT(total.several_walkers, total.events / 100);
}

TEST_P(SimulatorTest, SameSeedSameRun) {
  const SimulationResult first = simulate(GetParam(), 42, 2000);
  const SimulationResult second = simulate(GetParam(), 42, 2000);
  EXPECT_EQ(first.copies, second.copies);
  EXPECT_EQ(first.leases, second.leases);
}

INSTANTIATE_TEST_SUITE_P(Core, SimulatorTest, ::testing::Values(Subject::core));
INSTANTIATE_TEST_SUITE_P(Driver, SimulatorTest, ::testing::Values(Subject::driver));

}  // namespace
}  // namespace tensor_pager::testing
