// SPDX-License-Identifier: Apache-2.0
#include "prediction/machine.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <thread>

#include "loaders/tensor_type.hpp"
#include "qwen/backend.hpp"
#include "qwen/error.hpp"
#include "qwen/generation_placement.hpp"
#include "qwen/rates.hpp"

namespace tensor_pager::prediction {
namespace {

// As qwen::measure_placement_rates estimates them.
constexpr double kGpuKernels = 0.6;  // of the rate of copies within a GPU's memory
constexpr double kGpuStep = 10e-6;
constexpr double kHandover = 60e-6;

qwen::MachineRates rates_of(const Machine& device) {
  return {.link = device.link,
          .memory = device.rates.weights_rate,
          .arithmetic = device.rates.arithmetic,
          .cache = 0};
}

}  // namespace

std::map<loaders::TensorType, loaders::CpuKernelRate> kernels_of_all_types() {
  constexpr std::uint32_t kNumbers = 64;  // more than there are
  std::map<loaders::TensorType, loaders::CpuKernelRate> kernels;
  for (std::uint32_t number = 0; number < kNumbers; ++number) {
    if (const auto type = loaders::tensor_type_from_number(number)) kernels[*type] = {};
  }
  return kernels;
}

double host_slowed() {
  const double processors = std::max(std::thread::hardware_concurrency(), 1U);
  return (processors + 1) / processors;
}

// Generation as measured on 2026-11-27 (docs/performance.md): 96 tokens/s with everything resident
// at what kernels read alone; beside copies, processors and link in the rows with an arena.
Machine h200() {
  return {.name = "an H200 as measured on 2026-11-25 and 27, not this machine",
          .link = 55.3e9,
          .rates = {.arithmetic = 600e12},
          .map_seconds = kGpuMap,
          .generation = {.link = {.alone = 54.5e9, .together = 50.5e9},
                         .cpu = {.alone = 72e9, .together = 67e9},
                         .cpu_kernels = kernels_of_all_types(),
                         .gpu_memory = 2.3e12,
                         .gpu_arithmetic = 600e12,
                         .gpu_step = 7e-6,
                         .handover = kHandover}};
}

Machine this_machine(bool host) {
  if (!host && qwen::gpu_count() == 0) {
    throw qwen::Error(
        "--machine this: no GPU was found; use --device host for the processors here, or give "
        "--machine a file that pager_bench wrote where there is a GPU");
  }
  const qwen::MachineRates rates = host ? qwen::measure_host_rates() : qwen::measure_cuda_rates(0);
  return {.name = host ? "the processors here, measured now" : "the GPU here, measured now",
          .link = rates.link,
          .rates = {.arithmetic = rates.arithmetic, .weights_rate = rates.memory},
          .map_seconds = host ? kHostMap : kGpuMap,
          .generation = {},
          .host = host};
}

loaders::PlacementRates measure_generation(const qwen::Model& model, const BackingStore& weights,
                                           const Machine& device, std::uint32_t sequences) {
  const loaders::Graph graph = loaders::build_graph(model.gguf, {});
  const qwen::RatesRequest request{.device = rates_of(device),
                                   .gpu = device.host ? std::nullopt : std::optional(0),
                                   .sequences = sequences};
  return qwen::measure_placement(model, graph, weights, request, std::nullopt).rates;
}

loaders::PlacementRates generation_of_device(const Machine& device) {
  const double slowed = device.host ? host_slowed() : 1;
  const double memory = device.host ? device.rates.weights_rate : 0;
  return {.link = {.alone = device.link, .together = device.link / slowed},
          .cpu = {.alone = memory, .together = memory / slowed},
          .cpu_kernels = {},
          .gpu_memory = (device.host ? 1 : kGpuKernels) * device.rates.weights_rate,
          .gpu_arithmetic = device.rates.arithmetic,
          .gpu_step = device.host ? 0 : kGpuStep,
          .handover = device.host ? 0 : kHandover};
}

}  // namespace tensor_pager::prediction
