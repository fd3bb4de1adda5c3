// SPDX-License-Identifier: Apache-2.0
#include "placement.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <variant>

namespace tensor_pager::qwen_prefill {

std::optional<qwen::ChosenPlaces> choose_places(const qwen::Model& model, const Options& options,
                                                const qwen::MemoryPlan& plan,
                                                const BackingStore& store, std::optional<int> gpu) {
  const bool asked = !std::holds_alternative<qwen::OnDevice>(options.place) || options.explain;
  if (!asked || options.perplexity || options.predict == 0U) return std::nullopt;
  qwen::wait_until_ready(store);
  const qwen::MachineRates device =
      gpu ? qwen::measure_cuda_rates(*gpu) : qwen::measure_host_rates();
  const qwen::PlacementMeasurements measured =
      qwen::measure_placement(model, plan.graph, store, device, gpu, options.threads);
  for (const std::string& note : measured.threads.notes) {
    fmt::print(stderr, "qwen_prefill: {}\n", note);
  }
  qwen::ChosenPlaces chosen =
      qwen::choose_places(model, plan, measured.rates, options.place, measured.threads.threads);
  if (options.explain) {
    for (const std::string& line : chosen.lines()) fmt::print(stderr, "{}\n", line);
  }
  return chosen;
}

qwen::GenerationPlaces generation_places(const std::optional<qwen::ChosenPlaces>& chosen) {
  return chosen ? chosen->places : qwen::GenerationPlaces{};
}

}  // namespace tensor_pager::qwen_prefill
