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
  double map_seconds = 0;                ///< to map a page, on the host whatever its size
  loaders::PlacementRates generation{};  ///< of a token at a time
  bool host = false;                     ///< its device is its processors
};

/// Seconds of mmap of a frame on the host device, whatever its size, and of mapping one to a GPU.
constexpr double kHostMap = 5e-6;
constexpr double kGpuMap = 60e-6;

/// The same more for each byte of a frame, since the kernel maps 4 KiB at a time: measured on
/// 2026-11-28, a page of 1 MiB in the place of another takes 126 us, and one of 4 MiB 577 us.
constexpr double kHostMapByte = 130e-12;

/// Steps, copies and mappings share the processors of the host device.
struct HostLoad {
  // Shares of a pass's time for which each is at work.
  double steps = 0;
  double copies = 0;
  double maps = 0;

  // How many times as long as alone each takes, if steps take `by_one` times as long beside one
  // other thread. They have a thread on each processor, so that one of them waits for whatever else
  // runs, and a second one makes as much more. `beside` is by how much steps slow one thread.
  double slowed_steps(double by_one) const { return 1 + (copies + maps) * (by_one - 1); }
  double slowed_copies(double beside) const { return 1 + steps * (beside - 1) * (1 + maps); }
  double slowed_maps(double beside) const { return 1 + steps * (beside - 1) * (1 + copies); }
};

/// How many times as long as alone steps take beside another thread, and that thread beside them,
/// where the scheduler shares the processors fairly and nothing was measured: of n processors each
/// of n + 1 threads has n / (n + 1). `n` is this machine's: files do not say how many theirs has.
double host_slowed();

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
