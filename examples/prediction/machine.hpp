// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "loaders/placement.hpp"
#include "loaders/tensor_type.hpp"
#include "pager/backing_store.hpp"
#include "qwen/model.hpp"

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
  double map_seconds = 0;                ///< to map a page
  loaders::PlacementRates generation{};  ///< of a token at a time
  bool host = false;                     ///< its device is its processors
};

/// Seconds of mmap of a frame on the host device, and of mapping one to a GPU.
constexpr double kHostMap = 5e-6;
constexpr double kGpuMap = 60e-6;

/// One NVIDIA H200, as docs/performance.md has it.
Machine h200();

/// The machine that this program runs on, measured now: its first GPU, or with `host` its
/// processors. Takes half a second. What it generates with is not known. Throws qwen::Error if
/// there is no GPU.
Machine this_machine(bool host);

/// What this machine generates with, a token of each of so many sequences at a time: its processors
/// are measured on `weights` of the model, which takes half a second, and its device is `device`.
/// Throws what measure_placement throws.
loaders::PlacementRates measure_generation(const qwen::Model& model, const BackingStore& weights,
                                           const Machine& device, std::uint32_t sequences);

/// Of processors that compute with all types, at memory's rate.
std::map<loaders::TensorType, loaders::CpuKernelRate> kernels_of_all_types();

/// What is likely of a machine that generation was not measured on, from what was calibrated: its
/// processors compute nothing.
loaders::PlacementRates generation_of_device(const Machine& device);

}  // namespace tensor_pager::prediction
