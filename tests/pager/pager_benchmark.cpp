// What an acquire costs, with and without other processes being able to watch. The host device, one
// thread, everything resident: all that is left is bookkeeping.
#include <benchmark/benchmark.h>

#include <memory>
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

}  // namespace
}  // namespace tensor_pager

BENCHMARK_MAIN();
