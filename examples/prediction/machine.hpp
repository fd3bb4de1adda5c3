// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace tensor_pager::prediction {

/// What a machine's steps cost, once their pages are there.
struct StepRates {
  double arithmetic = 0;    ///< operations per second
  double weights_rate = 0;  ///< bytes per second; 0: no limit
};

/// The machine that predictions are for.
struct Machine {
  std::string name;  ///< what it is, and how that is known
  double link = 0;   ///< bytes per second
  StepRates rates;
  double map_seconds = 0;  ///< to map a page
};

/// Seconds of mmap of a frame on the host device, and of mapping one to a GPU.
constexpr double kHostMap = 5e-6;
constexpr double kGpuMap = 60e-6;

/// One NVIDIA H200, as docs/performance.md has it.
Machine h200();

/// The machine that this program runs on, measured now: its first GPU, or with `host` its
/// processors. Takes half a second. Throws qwen::Error if there is no GPU.
Machine this_machine(bool host);

}  // namespace tensor_pager::prediction
