// SPDX-License-Identifier: Apache-2.0
// What an acquire costs, with and without other processes being able to watch. The host device, one
// thread, everything resident: all that is left is bookkeeping.
#include <benchmark/benchmark.h>

#include <memory>
#include <thread>
#include <vector>

#include "pager/host_device.hpp"
#include "pager/memory_store.hpp"
#include "pager/pager.hpp"

namespace tensor_pager {
namespace {

constexpr Bytes kPage = KiB(4);
constexpr std::uint32_t kSteps = 256;

// state.range(0): pages of a step; state.range(1): whether what happens is published.
void acquire_resident_steps(benchmark::State& state) {
  const auto pages = static_cast<std::uint32_t>(state.range(0));
  const std::vector<std::byte> image(kPage.count * kSteps * pages);
  Pager pager(make_host_device(), std::make_shared<MemoryStore>(image),
              {.arena = Bytes{image.size()}, .page = kPage, .publish = state.range(1) != 0});
  AccessPlan plan;
  for (std::uint32_t i = 0; i < kSteps; ++i) {
    plan.steps.push_back({.reads = {{kPage * pages * i, kPage * pages}}});
  }
  pager.set_plan(plan);
  for (std::uint32_t i = 0; i < kSteps; ++i) pager.acquire(StepIndex{i});
  pager.settle();
  std::uint32_t step = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(pager.acquire(StepIndex{step}));
    step = (step + 1) % kSteps;
  }
}
BENCHMARK(acquire_resident_steps)
    ->ArgNames({"pages", "publish"})
    ->ArgsProduct({{1, 8, 32}, {0, 1}});

// Planned steps of an image of state.range(0) pages, all of them resident, with an acquire of one
// resident page outside the plan between them, or without. The difference is what that one costs.
void acquire_between_planned_steps(benchmark::State& state) {
  const auto pages = static_cast<std::uint32_t>(state.range(0));
  const bool between = state.range(1) != 0;
  const std::vector<std::byte> image(kPage.count * (pages + 1));
  Pager pager(make_host_device(), std::make_shared<MemoryStore>(image),
              {.arena = Bytes{image.size()}, .page = kPage, .publish = false});
  AccessPlan plan;
  for (std::uint32_t i = 0; i < pages; ++i) plan.steps.push_back({.reads = {{kPage * i, kPage}}});
  pager.set_plan(plan);
  const ByteRange adapter{kPage * pages, kPage};
  for (std::uint32_t i = 0; i < pages; ++i) pager.acquire(StepIndex{i});
  pager.acquire(std::span(&adapter, 1));
  pager.settle();
  const std::uint64_t loads = pager.statistics().core.loads;
  std::uint32_t step = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(pager.acquire(StepIndex{step}));
    step = (step + 1) % pages;
    if (between) benchmark::DoNotOptimize(pager.acquire(std::span(&adapter, 1)));
  }
  state.counters["copied"] = static_cast<double>(pager.statistics().core.loads - loads);
}
BENCHMARK(acquire_between_planned_steps)
    ->ArgNames({"pages", "between"})
    ->ArgsProduct({{1280, 8192}, {0, 1}});

// Three threads, each with passes of its own over an image of which a quarter fits, over a link of
// 4 GB/s; state.range(0): whether the pager has the plan. One iteration is a pass of each.
void three_walkers(benchmark::State& state) {
  constexpr std::uint32_t kPassSteps = 64;
  constexpr Bytes kStep = MiB(1);
  constexpr int kWalkers = 3;
  const std::vector<std::byte> image(kStep.count * kPassSteps);
  Pager pager(
      make_host_device({.link_bytes_per_second = 4e9, .link_latency = {}, .trace = nullptr}),
      std::make_shared<MemoryStore>(image),
      {.arena = kStep * (kPassSteps / 4), .page = KiB(256), .publish = false});
  AccessPlan plan;
  for (std::uint32_t i = 0; i < kPassSteps; ++i)
    plan.steps.push_back({.reads = {{kStep * i, kStep}}});
  const bool planned = state.range(0) != 0;
  if (planned) pager.set_plan(plan);
  const auto pass = [&] {
    for (std::uint32_t i = 0; i < kPassSteps; ++i) {
      benchmark::DoNotOptimize(planned ? pager.acquire(StepIndex{i})
                                       : pager.acquire(plan.steps[i].reads));
    }
  };
  for (auto _ : state) {
    std::vector<std::jthread> walkers;
    for (int i = 0; i < kWalkers; ++i) walkers.emplace_back(pass);
  }
  pager.settle();
  state.counters["copied MB a pass"] = static_cast<double>(pager.statistics().link.copied.count) *
                                       1e-6 / (kWalkers * static_cast<double>(state.iterations()));
}
BENCHMARK(three_walkers)
    ->ArgName("planned")
    ->Arg(0)
    ->Arg(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tensor_pager

BENCHMARK_MAIN();
