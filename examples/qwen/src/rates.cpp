#include "qwen/rates.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/matmul.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

using Clock = std::chrono::steady_clock;

double best_seconds(int runs, const std::function<void()>& work) {
  work();  // the first time memory is touched
  double best = 1e9;
  for (int i = 0; i < runs; ++i) {
    const auto begin = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

}  // namespace

MachineRates measure_host_rates() {
  constexpr std::size_t kCopy = std::size_t{64} << 20;
  const std::vector<std::byte> from(kCopy, std::byte{1});
  std::vector<std::byte> to(kCopy);
  MachineRates rates;
  rates.link = static_cast<double>(kCopy) /
               best_seconds(3, [&] { std::memcpy(to.data(), from.data(), kCopy); });

  constexpr std::size_t kRows = 1024;
  constexpr std::size_t kTokens = 256;
  const std::vector<float> w(kRows * kRows, 0.5F);
  const std::vector<float> x(kTokens * kRows, 0.25F);
  std::vector<float> y(kTokens * kRows);
  const kernels::Weights weights{kernels::WeightType::f32,
                                 reinterpret_cast<const std::byte*>(w.data()), kRows, kRows};
  rates.arithmetic =
      2.0 * kRows * kRows * kTokens / best_seconds(5, [&] {
        kernels::cpu::matmul(weights, {x.data(), kTokens, kRows}, {y.data(), kTokens, kRows});
      });
  return rates;
}

double step_operations(const loaders::Graph& graph, const loaders::Step& step, const PassSize& size,
                       std::uint32_t ubatch, std::size_t past) {
  if (step.op == loaders::Op::output) return step.flops_per_token * size.wanted;
  const std::size_t first = std::size_t{ubatch} * size.ubatch;
  const auto tokens = static_cast<double>(std::min<std::size_t>(size.ubatch, size.tokens - first));
  double operations = step.flops_per_token * tokens;
  if (step.op == loaders::Op::attention_output && step.first_slice) {
    const double keys = tokens * static_cast<double>(past + first) + tokens * (tokens + 1) / 2;
    operations +=
        4 * keys * graph.config.layers.at(step.layer).head_count * graph.config.key_length;
  }
  return operations;
}

double pass_operations(const loaders::Graph& graph, const PassSize& size, std::size_t past) {
  const std::uint32_t ubatches = (size.tokens + size.ubatch - 1) / size.ubatch;
  double operations = 0;
  for (const loaders::ScheduledStep& entry : loaders::schedule(graph, ubatches)) {
    operations += step_operations(graph, graph.steps[entry.step], size, entry.ubatch, past);
  }
  return operations;
}

#ifndef TENSOR_PAGER_CUDA
MachineRates measure_cuda_rates(int /*gpu*/) {
  throw Error("no GPU was found: this build has no CUDA; use --device host");
}
#endif

}  // namespace tensor_pager::qwen
