// SPDX-License-Identifier: Apache-2.0
// Rates of the CPU kernels beside the processor's peak. Not a test: run it on an otherwise idle
// machine.

#include <benchmark/benchmark.h>
#include <tbb/cache_aligned_allocator.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/matmul.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

// Random bytes make valid blocks of every type; scales that are not numbers only slow nothing down
// on x86, but zeros in the exponents keep the values finite.
std::vector<std::byte> random_blocks(WeightType type, std::size_t elements) {
  std::vector<std::byte> bytes(row_bytes(type, elements));
  std::mt19937_64 random(1);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() & 0x33U);
  return bytes;
}

std::vector<float, tbb::cache_aligned_allocator<float>> random_floats(std::size_t count) {
  std::vector<float, tbb::cache_aligned_allocator<float>> values(count);
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(random);
  return values;
}

benchmark::Counter per_second(double amount) {
  return {amount, benchmark::Counter::kIsIterationInvariantRate};
}

void dequantize_type(benchmark::State& state, WeightType type, InstructionSet set) {
  constexpr std::size_t kElements = std::size_t{1} << 14;  // in the first two caches
  const auto blocks = random_blocks(type, kElements);
  std::vector<float> out(kElements);
  for (auto _ : state) {
    dequantize(type, blocks.data(), out.data(), kElements, set);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.counters["elements"] = per_second(kElements);
}

void matmul_shape(benchmark::State& state, WeightType type, InstructionSet set) {
  constexpr std::size_t kRows = 3584;
  constexpr std::size_t kCols = 18944;
  const auto tokens = static_cast<std::size_t>(state.range(0));
  const auto blocks = random_blocks(type, kRows * kCols);
  const auto x = random_floats(tokens * kCols);
  std::vector<float> y(tokens * kRows);
  for (auto _ : state) {
    matmul({type, blocks.data(), kRows, kCols}, {x.data(), tokens, kCols},
           {y.data(), tokens, kRows}, {.instruction_set = set});
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["FLOP"] = per_second(2.0 * kRows * kCols * static_cast<double>(tokens));
  state.counters["weight_bytes"] = per_second(static_cast<double>(blocks.size()));
}

void attention_prompt(benchmark::State& state, InstructionSet set) {
  const auto tokens = static_cast<std::size_t>(state.range(0));
  const auto past = static_cast<std::size_t>(state.range(1));
  const AttentionShape shape{tokens, 28, 4, 128, past, 0.088F};
  const auto q = random_floats(tokens * 28 * 128);
  const auto cache = random_floats((past + tokens) * 4 * 128);
  std::vector<float> out(q.size());
  for (auto _ : state) {
    attention(shape, {q.data(), tokens, 28 * 128},
              KvCacheView::of(cache.data(), cache.data(), 4 * 128), {out.data(), tokens, 28 * 128},
              set);
    benchmark::DoNotOptimize(out.data());
  }
  const double pairs = static_cast<double>(tokens) *
                       (static_cast<double>(past) + 0.5 * static_cast<double>(tokens + 1));
  state.counters["FLOP"] = per_second(4.0 * pairs * 28 * 128);
}

// What matmul/*/1 is held against: all threads reading memory, far more than the caches have.
void memory_read(benchmark::State& state) {
  constexpr std::size_t kWords = std::size_t{1} << 26;
  const std::vector<std::uint64_t> memory(kWords, 1);
  const auto threads = static_cast<std::size_t>(tbb::this_task_arena::max_concurrency());
  const std::size_t share = kWords / threads;
  for (auto _ : state) {
    tbb::parallel_for(
        std::size_t{0}, threads,
        [&](std::size_t thread) {
          std::uint64_t sum = 0;
          for (std::size_t i = thread * share; i < (thread + 1) * share; ++i) sum += memory[i];
          benchmark::DoNotOptimize(sum);
        },
        tbb::simple_partitioner{});
  }
  state.counters["bytes"] = per_second(8.0 * static_cast<double>(share * threads));
}

#ifdef __x86_64__
using Vec16 = float __attribute__((vector_size(64)));

// Eight independent chains of fused multiply-adds: what the multipliers can do.
[[gnu::target("avx512f")]] void multiply_adds(std::size_t steps, float* out) {
  Vec16 a{}, b{}, c{}, d{}, e{}, f{}, g{}, h{};
  const Vec16 factor = Vec16{} + 0.999F;
  for (std::size_t step = 0; step < steps; ++step) {
    asm("vfmadd213ps %8, %8, %0\n vfmadd213ps %8, %8, %1\n vfmadd213ps %8, %8, %2\n"
        "vfmadd213ps %8, %8, %3\n vfmadd213ps %8, %8, %4\n vfmadd213ps %8, %8, %5\n"
        "vfmadd213ps %8, %8, %6\n vfmadd213ps %8, %8, %7"
        : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f), "+v"(g), "+v"(h)
        : "v"(factor));
  }
  *out = (a + b + c + d + e + f + g + h)[0];
}

void fma_peak(benchmark::State& state) {
  constexpr std::size_t kSteps = 1 << 20;
  const auto threads = static_cast<std::size_t>(tbb::this_task_arena::max_concurrency());
  for (auto _ : state) {
    tbb::parallel_for(
        std::size_t{0}, threads,
        [](std::size_t) {
          float out = 0.0F;
          multiply_adds(kSteps, &out);
          benchmark::DoNotOptimize(out);
        },
        tbb::simple_partitioner{});
  }
  state.counters["FLOP"] = per_second(static_cast<double>(kSteps * threads) * 8 * 16 * 2);
}
#endif

void register_all() {
  benchmark::RegisterBenchmark("memory_read", memory_read)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
#ifdef __x86_64__
  if (best_instruction_set() >= InstructionSet::avx512) {
    benchmark::RegisterBenchmark("fma_peak", fma_peak)->UseRealTime();
  }
#endif
  for (const InstructionSet set : available_instruction_sets()) {
    const std::string suffix = "/" + std::string(name(set));
    for (const WeightType type : all_weight_types()) {
      const std::string label = std::string(name(type)) + suffix;
      benchmark::RegisterBenchmark(("dequantize/" + label).c_str(), dequantize_type, type, set);
      benchmark::RegisterBenchmark(("matmul/" + label).c_str(), matmul_shape, type, set)
          ->Arg(1)
          ->Arg(2)
          ->Arg(4)
          ->Arg(5)
          ->Arg(8)
          ->Arg(16)
          ->Arg(64)
          ->Arg(512)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
    benchmark::RegisterBenchmark(("attention" + suffix).c_str(), attention_prompt, set)
        ->Args({512, 0})
        ->Args({512, 7680})
        ->Args({1, 4096})
        ->Args({1, 32768})
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu

int main(int argc, char** argv) {
  tensor_pager::kernels::cpu::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
