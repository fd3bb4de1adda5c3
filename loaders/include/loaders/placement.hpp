// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/gguf.hpp"
#include "loaders/graph.hpp"
#include "loaders/tensor_type.hpp"
#include "pager/export.hpp"
#include "pager/plan.hpp"
#include "pager/types.hpp"

namespace tensor_pager::loaders {

/// Where a step is computed. What is computed on the GPU reads its weights through the pager; which
/// of its pages stay and which are streamed is the pager's business. What is computed on the CPU
/// reads the mapped file in place, and is no part of the pager's plan.
enum class Place : std::uint8_t { gpu, cpu };

TENSOR_PAGER_EXPORT std::string_view to_string(Place place);

/// By step of Graph::steps. A vector beside the graph, since a graph describes a model, whatever
/// machine runs it.
using Places = std::vector<Place>;

/// A rate in bytes per second of something that shares the host's memory with something else.
struct SharedRate {
  double alone = 0;
  double together = 0;  ///< while the other works, too
};

/// What a weight type's products on the CPU can reach where memory is no limit, all threads
/// together. 0: no limit.
struct CpuKernelRate {
  double weights = 0;     ///< bytes of weights per second, however few tokens are multiplied
  double arithmetic = 0;  ///< floating-point operations per second with many tokens
};

/// What a machine does. Seconds and bytes per second.
struct PlacementRates {
  SharedRate link;  ///< copies to the GPU, beside the CPU's reading
  SharedRate cpu;   ///< the CPU's reading of weights in host memory, beside copies; 0: no CPU work
  /// A type that is not here has no kernel: it stays on the GPU. Vectors need none.
  std::map<TensorType, CpuKernelRate> cpu_kernels{};
  double gpu_memory = 0;      ///< weights that the GPU's kernels read
  double gpu_arithmetic = 0;  ///< floating-point operations per second; 0: no limit
  double gpu_step = 0;        ///< seconds of a step besides: launches
  /// Seconds from the GPU's having written a unit's input to its going on with the result, less the
  /// unit's work and the transfer of activations.
  double handover = 0;
};

/// What computing something takes, on one side or the other. Seconds.
struct StepCost {
  double bytes = 0;  ///< of weights
  double gpu = 0;
  double cpu_alone = 0;   ///< nothing else reads host memory
  double cpu_beside = 0;  ///< copies run, too
  double cpu_memory = 0;  ///< of cpu_beside, what reading takes, if arithmetic took nothing

  TENSOR_PAGER_EXPORT StepCost& operator+=(const StepCost& other);
};

/// By step of the graph, for a pass of `batch` tokens. On the CPU, every weight takes the longest
/// of: its bytes at the memory's rate, its bytes and its operations at its kernel's.
TENSOR_PAGER_EXPORT std::vector<StepCost> step_costs(const Graph& graph,
                                                     std::span<const TensorInfo> tensors,
                                                     const PlacementRates& rates,
                                                     std::uint32_t batch);

/// Seconds that a unit on the CPU takes beside its work: PlacementRates::handover, and activations
/// of `batch` tokens, float32, both ways over the link.
TENSOR_PAGER_EXPORT double handover_seconds(const Graph& graph, const PlacementRates& rates,
                                            std::uint32_t batch);

/// The same rates, where those together are worse than taking turns would be raised to that.
TENSOR_PAGER_EXPORT PlacementRates taking_turns(PlacementRates rates);

/// What is to be placed, and what is settled already.
struct PlacementRequest {
  Bytes arena{};  ///< the pager's frames during the pass
  Bytes page{};
  std::uint32_t batch = 1;  ///< tokens of a pass: its columns
  /// Nothing: what is predicted to be fastest. Otherwise the share of the bytes of the units that
  /// the CPU can compute which it shall compute: 0 streams everything, 1 leaves nothing to stream
  /// that need not be.
  std::optional<double> cpu_share{};
  /// The pager's, if it is settled already; nothing: is chosen.
  std::optional<std::uint32_t> prefetch_depth{};
};

/// What a pass takes, once what stays in the arena from one pass to the next is settled.
struct PlacementPrediction {
  /// cpu + gpu + handover + stalled: one after another. Copies run beside all of them.
  double seconds = 0;
  double cpu = 0;       ///< products of CPU units, as slow as copies beside them make them
  double gpu = 0;       ///< steps of the GPU
  double handover = 0;  ///< of activations to CPU units and back
  double stalled = 0;   ///< the GPU waits for pages
  double link = 0;      ///< what the copies would take alone
  Bytes resident;       ///< pages that stay in the arena
  Bytes streamed;       ///< pages that are copied in each pass
  Bytes on_cpu;         ///< weights of CPU units
  /// What no placement can beat: what the arena does not hold, moved by link and CPU at once, or
  /// all weights, read by whichever of GPU and CPU reads faster.
  double bound = 0;
};

/// The places of a graph's steps, and what is predicted of them.
struct Placement {
  Places places{};
  /// Frames that copies may run ahead by (AccessPlan::prefetch_depth): while the CPU computes, the
  /// link copies what the next units on the GPU need, and that has to lie somewhere.
  std::uint32_t prefetch_depth = 0;
  PlacementPrediction predicted{};
};

/// Places the steps of a pass that is repeated, as generation does. Units are placed as a whole:
/// the steps of one layer's Op::ffn_gate_up and Op::ffn_down, on the GPU or on the CPU. All else
/// stays on the GPU, where the key-value cache is. Of the assignments that take as many units of
/// each size from the GPU, the one that takes them evenly from all layers stands for all, so that
/// copies that run ahead find a CPU unit to hide behind everywhere in the pass.
///
/// Of these, with each of some prefetch depths, it returns the one with the least predicted time;
/// of equally fast ones, the one with the fewest bytes on the CPU. With the same graph, page and
/// batch, more arena, a faster link and a faster CPU never predict a longer time.
///
/// A pure function. `tensors` are GgufModel::tensors(). Throws std::invalid_argument for rates of
/// link and GPU that are not positive, or a page of no bytes, and BudgetError if no assignment's
/// largest step fits the arena.
TENSOR_PAGER_EXPORT Placement place(const Graph& graph, std::span<const TensorInfo> tensors,
                                    const PlacementRates& rates, const PlacementRequest& request);

/// What is predicted of given places, with the best prefetch depth unless the request has one;
/// PlacementRequest::cpu_share is not looked at.
///
/// A token takes its steps one after another, and the link copies beside them. The pager keeps all
/// pages of the GPU's steps if they fit, and else as many as there are frames beside those that
/// copies run ahead in, spread over the pass (Core). So each GPU step needs the same share of its
/// bytes to have been copied, and copies stand still when they are a prefetch depth, less a page,
/// ahead of the last step that has ended. They run at link.alone, and at link.together while the
/// CPU reads memory; the CPU reads at cpu.together until they stand still. Rates together are taken
/// to be no worse than taking turns (taking_turns).
///
/// Throws like place, and std::invalid_argument for places that place would not choose from: other
/// steps on the CPU, units that are divided, types without a kernel.
TENSOR_PAGER_EXPORT Placement predict_places(const Graph& graph,
                                             std::span<const TensorInfo> tensors,
                                             const Places& places, const PlacementRates& rates,
                                             const PlacementRequest& request);

/// One entry of the order in which a pass runs its steps, wherever they are computed.
struct PlacedStep {
  std::uint32_t step = 0;  ///< index into Graph::steps
  std::uint32_t ubatch = 0;
  Place place = Place::gpu;
  /// Place::gpu: the step of access_plan(graph, shape, places) that holds its weights. Place::cpu:
  /// nothing.
  std::optional<StepIndex> plan_step{};
};

/// The order of schedule(graph, ubatches), with places.
TENSOR_PAGER_EXPORT std::vector<PlacedStep> schedule(const Graph& graph, std::uint32_t ubatches,
                                                     const Places& places);

/// The pager's view of that order: access_plan(graph, shape) without the steps of the CPU.
TENSOR_PAGER_EXPORT AccessPlan access_plan(const Graph& graph, const PassShape& shape,
                                           const Places& places);

}  // namespace tensor_pager::loaders
