// SPDX-License-Identifier: Apache-2.0
// core_simulator: runs the core, or the driver with it, against a simulated device for many seeds,
// and stops at the first violation.
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string_view>

#include "simulator.hpp"

namespace {

constexpr const char* kUsage =
    "usage: core_simulator [--driver] [--first-seed N] [--seeds N] [--events N]\n"
    "--driver runs the driver and the core together, with threads and faults; otherwise the core.\n"
    "Runs seeds [first, first + seeds), default [1, 10001), for so many events each (default "
    "1000).\n"
    "Exit status: 0 no violation, 1 a violation (with the command that replays it), 2 wrong "
    "usage.\n";

struct Options {
  std::uint64_t first_seed = 1;
  std::uint64_t seeds = 10000;
  std::uint64_t events = 1000;
  tensor_pager::testing::Subject subject = tensor_pager::testing::Subject::core;
};

bool parse(int argc, char** argv, Options& options) {
  int i = 1;
  if (argc > 1 && std::string_view(argv[1]) == "--driver") {
    options.subject = tensor_pager::testing::Subject::driver;
    ++i;
  }
  for (; i + 1 < argc; i += 2) {
    std::uint64_t* value = nullptr;
    if (std::string_view(argv[i]) == "--first-seed") value = &options.first_seed;
    if (std::string_view(argv[i]) == "--seeds") value = &options.seeds;
    if (std::string_view(argv[i]) == "--events") value = &options.events;
    const char* const end = argv[i + 1] + std::strlen(argv[i + 1]);
    if (value == nullptr || std::from_chars(argv[i + 1], end, *value).ptr != end) return false;
  }
  return i == argc;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  tensor_pager::testing::SimulationResult total;
  for (std::uint64_t seed = options.first_seed; seed < options.first_seed + options.seeds; ++seed) {
    try {
      const auto result = tensor_pager::testing::simulate(options.subject, seed, options.events);
      total.events += result.events;
      total.copies += result.copies;
      total.leases += result.leases;
      total.failures += result.failures;
    } catch (const std::exception& error) {
      std::fprintf(
          stderr, "seed %llu: %s\nreplay with: %s\n", static_cast<unsigned long long>(seed),
          error.what(),
          tensor_pager::testing::replay_command(options.subject, seed, options.events).c_str());
      return 1;
    }
  }
  std::printf(
      "%llu seeds, %llu events, %llu leases, %llu pages copied, %llu leases failed: no violation\n",
      static_cast<unsigned long long>(options.seeds), static_cast<unsigned long long>(total.events),
      static_cast<unsigned long long>(total.leases), static_cast<unsigned long long>(total.copies),
      static_cast<unsigned long long>(total.failures));
  return 0;
}
