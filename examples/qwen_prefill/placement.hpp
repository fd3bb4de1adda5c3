// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "options.hpp"
#include "pager/backing_store.hpp"
#include "qwen/generation_placement.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen_prefill {

/// Where a run's generation is computed, as the options wish; with --explain that is printed on
/// stderr, as is whatever could not be done as asked. Nothing unless somebody asks: everything runs
/// on the device then, and nothing needs to be measured. Throws what the parts throw.
std::optional<qwen::ChosenPlaces> choose_places(const qwen::Model& model, const Options& options,
                                                const qwen::MemoryPlan& plan,
                                                const BackingStore& store, std::optional<int> gpu);

/// All on the device if nothing was chosen.
qwen::GenerationPlaces generation_places(const std::optional<qwen::ChosenPlaces>& chosen);

}  // namespace tensor_pager::qwen_prefill
