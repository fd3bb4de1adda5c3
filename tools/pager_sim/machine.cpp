// SPDX-License-Identifier: Apache-2.0
#include "machine.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "qwen/error.hpp"
#include "qwen/rates.hpp"

namespace tensor_pager::pager_sim {
namespace {

// What mmap of a frame takes on the host device, and mapping one to a GPU.
constexpr double kHostMap = 5e-6;
constexpr double kGpuMap = 60e-6;

}  // namespace

Machine h200() {
  return {.name = "an H200 as measured on 2026-11-25, not this machine",
          .link = 55.3e9,
          .rates = {.arithmetic = 600e12},
          .map_seconds = kGpuMap};
}

Machine this_machine(bool host) {
  const qwen::MachineRates rates = host ? qwen::measure_host_rates() : qwen::measure_cuda_rates(0);
  return {.name = host ? "the processors here, measured now" : "the GPU here, measured now",
          .link = rates.link,
          .rates = {.arithmetic = rates.arithmetic, .weights_rate = rates.memory},
          .map_seconds = host ? kHostMap : kGpuMap};
}

Machine machine_of_file(const qwen::Model& model, const std::filesystem::path& path) {
  const std::vector<CalibratedRates> rows = read_calibrations(path);
  const CalibratedRates best = *std::ranges::max_element(rows, {}, &CalibratedRates::link);
  Machine machine{.name = fmt::format("as calibrated in {}", path.string()),
                  .link = best.link,
                  .rates = {.arithmetic = best.arithmetic, .weights_rate = best.memory},
                  .map_seconds = best.host ? kHostMap : kGpuMap};
  if (!best.of_row) return machine;
  machine.rates = fit_rates(model, read_measurements(path));
  machine.name = fmt::format("fitted to the resident prefills in {}", path.string());
  return machine;
}

}  // namespace tensor_pager::pager_sim
