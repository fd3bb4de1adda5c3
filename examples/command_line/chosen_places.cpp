// SPDX-License-Identifier: Apache-2.0
#include "command_line/chosen_places.hpp"

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

#include "command_line/note.hpp"
#include "prediction/kept_rates.hpp"

namespace tensor_pager::command_line {

namespace {

using prediction::KeptRates;

// By its name and its place: two of one kind may have different links.
std::string gpu_text(const PlacementDevice& device) {
  if (!device.gpu) return {};
  const std::optional<std::string> address = qwen::gpu_address(*device.gpu);
  return address ? fmt::format("{} at {}", device.name, *address) : device.name;
}

std::optional<prediction::RatesFile> rates_file(const qwen::Model& model,
                                                const qwen::MemoryPlan& plan,
                                                const PlacementDevice& device, unsigned threads) {
  const auto folder = prediction::rates_folder(std::getenv("XDG_CACHE_HOME"), std::getenv("HOME"));
  if (!folder) return std::nullopt;
  prediction::RatesKey key = prediction::key_of_this_machine(
      threads, gpu_text(device), qwen::feed_forward_types(model, plan.graph));
  key.sequences = plan.sequences;
  return prediction::RatesFile(*folder, std::move(key));
}

loaders::PlacementRates measure(const qwen::Model& model, const qwen::MemoryPlan& plan,
                                const BackingStore& store, std::optional<int> gpu,
                                const qwen::HostThreadsOptions& threads) {
  qwen::wait_until_ready(store);
  const qwen::MachineRates device =
      gpu ? qwen::measure_cuda_rates(*gpu) : qwen::measure_host_rates();
  qwen::HostThreads measuring(threads);
  return qwen::measure_placement_rates(model, plan.graph, store, measuring,
                                       {.device = device, .gpu = gpu, .sequences = plan.sequences});
}

}  // namespace

void add_measure(CLI::App& app, bool& measure) {
  app.add_flag("--measure", measure,
               "Measure this machine's rates for --place anew, instead of reading those that an "
               "earlier run kept in the user's cache folder");
}

std::optional<qwen::ChosenPlaces> choose_places(
    std::string_view program, const PlacementOptions& options, const qwen::Model& model,
    const qwen::MemoryPlan& plan, const BackingStore& store, const PlacementDevice& device) {
  const bool asked = !std::holds_alternative<qwen::OnDevice>(options.place) || options.explain;
  if (!asked) return std::nullopt;
  const qwen::HostThreadsChoice choice = qwen::choose_host_threads(device.gpu, options.threads);
  const KeptRates kept = prediction::keep_rates(
      {.file = rates_file(model, plan, device, choice.threads.threads),
       .anew = options.measure,
       .date = prediction::today()},
      [&] { return measure(model, plan, store, device.gpu, choice.threads); });
  for (const std::string& note : choice.notes) note_line(program, note);
  if (!kept.problem.empty()) note_line(program, kept.problem);
  qwen::ChosenPlaces chosen =
      qwen::choose_places(model, plan, kept.rates, options.place, choice.threads);
  chosen.rates_origin = kept.origin;
  if (options.explain) {
    for (const std::string& line : chosen.lines()) note(line + "\n");
  }
  return chosen;
}

qwen::GenerationPlaces generation_places(const std::optional<qwen::ChosenPlaces>& chosen) {
  return chosen ? chosen->places : qwen::GenerationPlaces{};
}

}  // namespace tensor_pager::command_line
