// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "command_line/values.hpp"
#include "comparison.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::pager_sim {

/// The machine that predictions are for.
struct Machine {
  std::string name;  ///< what it is, and how that is known
  double link = 0;   ///< bytes per second
  StepRates rates;
  double map_seconds = 0;  ///< to map a page
};

/// One NVIDIA H200, as docs/performance.md has it.
Machine h200();

/// The machine that this program runs on, measured now: its first GPU, or with `host` its
/// processors. Takes half a second. Throws qwen::Error if there is no GPU.
Machine this_machine(bool host);

/// What pager_bench wrote: rows with -o json or jsonl, from which rates are fitted as --against
/// does, or what --calibrate measured. Throws qwen::Error if it is neither.
Machine machine_of_file(const qwen::Model& model, const std::filesystem::path& path);

}  // namespace tensor_pager::pager_sim
