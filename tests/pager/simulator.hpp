// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace tensor_pager::testing {

struct SimulationResult {
  std::uint64_t events = 0;
  std::uint64_t copies = 0;
  std::uint64_t leases = 0;
  std::uint64_t failures =
      0;  ///< leases that failed because a copy did, or because waiting would never have ended
  std::uint64_t refused_budgets = 0;
  std::uint64_t rings = 0;  ///< events after which kept pages were spread and all pages had homes
  std::uint64_t several_walkers = 0;  ///< events after which several callers walked the plan
};

/// Runs the core against a simulated device, store and clock for `events` events drawn from `seed`:
/// random plans (cyclic, random, with ranges chosen at run time), budgets that change or cannot,
/// several callers that walk together or apart and queue in several streams, pages outside the plan
/// (some of them again and again), hints, leases held long, copies that are late, finish out of
/// order or fail, host pages that appear late. The device is modelled here, from the commands
/// alone.
///
/// Throws std::logic_error at the first event after which an invariant does not hold.
SimulationResult simulate(std::uint64_t seed, std::uint64_t events);

/// Runs driver and core together, likewise: several callers and streams, the pager's thread between
/// any two of its steps, faults in every call of the device, the end of the pager at any moment.
SimulationResult simulate_driver(std::uint64_t seed, std::uint64_t events);

enum class Subject : std::uint8_t { core, driver };
SimulationResult simulate(Subject subject, std::uint64_t seed, std::uint64_t events);

/// The command that replays a seed.
std::string replay_command(Subject subject, std::uint64_t seed, std::uint64_t events);

}  // namespace tensor_pager::testing
