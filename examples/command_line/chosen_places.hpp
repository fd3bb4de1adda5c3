// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "command_line/device_options.hpp"
#include "pager/backing_store.hpp"
#include "qwen/generation_placement.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::command_line {

/// What a run would run on.
struct PlacementDevice {
  std::string name;
  std::optional<int> gpu{};  ///< which one, if it is one
};

/// Declares --measure, for programs that keep what they measured from one run to the next.
void add_measure(CLI::App& app, bool& measure);

/// Where the generation of `program` is computed, as the options wish; with --explain that is
/// printed on stderr, as is whatever could not be done as asked. Nothing unless somebody asks:
/// everything runs on the device then, and nothing needs to be measured. What is measured is kept
/// in the user's cache folder. Throws what the parts throw.
std::optional<qwen::ChosenPlaces> choose_places(
    std::string_view program, const PlacementOptions& options, const qwen::Model& model,
    const qwen::MemoryPlan& plan, const BackingStore& store, const PlacementDevice& device);

/// All on the device if nothing was chosen.
qwen::GenerationPlaces generation_places(const std::optional<qwen::ChosenPlaces>& chosen);

}  // namespace tensor_pager::command_line
