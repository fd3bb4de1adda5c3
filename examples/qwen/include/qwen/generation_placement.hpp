// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "loaders/explanation.hpp"
#include "loaders/placement.hpp"
#include "pager/backing_store.hpp"
#include "qwen/host_threads.hpp"
#include "qwen/inference.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"
#include "qwen/rates.hpp"

namespace tensor_pager::qwen {

/// Everything runs on the device.
struct OnDevice {};
/// What is predicted to be fastest.
struct Fastest {};
/// Where the feed-forward parts of generation run: a percentage of their weights is for the
/// processors to compute.
using PlaceWish = std::variant<OnDevice, Fastest, Percent>;

/// Which threads compute the processors' share.
struct HostThreadsChoice {
  HostThreadsOptions threads{};
  std::string what;                  ///< "15 threads, one a core, near the GPU"
  std::vector<std::string> notes{};  ///< what could not be done as asked, a line each
};

/// By this machine's topology. `gpu`: whose NUMA node is meant, if there is one; a processor is
/// then left to the thread that commands copies, unless `wanted` says how many there shall be.
/// Throws Error.
HostThreadsChoice choose_host_threads(std::optional<int> gpu, std::optional<std::uint32_t> wanted);

/// Types of the matrices that processors may be asked to multiply with, ascending.
std::vector<loaders::TensorType> feed_forward_types(const Model& model,
                                                    const loaders::Graph& graph);

/// Which rates placement asks for.
struct RatesRequest {
  MachineRates device{};        ///< as it was measured
  std::optional<int> gpu{};     ///< which one it is; without one it is the processors
  std::uint32_t sequences = 1;  ///< tokens that a pass of generation multiplies together
};

/// What placement has to know of this machine: what the device was measured to be, and how fast
/// `threads` multiply one token, and one of each sequence, with the types of the graph's
/// feed-forward weights, alone and while copies run: to the GPU, or of pages on the host device. On
/// weights of the model that `store` reads; takes a third of a second, with several sequences half
/// a second. Of what a handover and a step take besides, it has estimates. Without a GPU the device
/// is these processors, so it computes as fast as they do.
loaders::PlacementRates measure_placement_rates(const Model& model, const loaders::Graph& graph,
                                                const BackingStore& store, HostThreads& threads,
                                                const RatesRequest& request);

/// Where a run computes what, and why.
struct ChosenPlaces {
  GenerationPlaces places;
  loaders::PlacementPrediction predicted;
  std::string rates_origin{};  ///< how the rates are known, for people; nothing: not said
  loaders::Explanation generation;
  loaders::Explanation prefill;  ///< all on the device

  /// Both for people to read.
  std::vector<std::string> lines() const;
};

/// What a run has measured for placement, once.
struct PlacementMeasurements {
  HostThreadsChoice threads;
  loaders::PlacementRates rates;
};

/// Returns when all of the store can be read without waiting (BackingStore::announce): while files
/// are being pinned, processors and link are busy.
void wait_until_ready(const BackingStore& store);

/// choose_host_threads, then measure_placement_rates with them, once the store is ready.
PlacementMeasurements measure_placement(const Model& model, const loaders::Graph& graph,
                                        const BackingStore& store, const RatesRequest& request,
                                        std::optional<std::uint32_t> wanted_threads);

/// Places the generation of a run, a token of each of its sequences at a time, by rates that were
/// measured for as many. Throws BudgetError if the largest step does not fit.
ChosenPlaces choose_places(const Model& model, const MemoryPlan& plan,
                           const loaders::PlacementRates& rates, const PlaceWish& wish,
                           const HostThreadsOptions& threads);

}  // namespace tensor_pager::qwen
