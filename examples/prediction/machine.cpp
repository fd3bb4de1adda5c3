// SPDX-License-Identifier: Apache-2.0
#include "prediction/machine.hpp"

#include "qwen/rates.hpp"

namespace tensor_pager::prediction {
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

}  // namespace tensor_pager::prediction
