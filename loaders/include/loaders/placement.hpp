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

/// What is to be placed, and what is settled already.
struct PlacementRequest {
  Bytes arena{};  ///< the pager's frames during the pass
  Bytes page{};
  std::uint32_t batch = 1;  ///< tokens of a pass: its columns
  /// Nothing: what is predicted to be fastest. Otherwise the share of the bytes of the units that
  /// the CPU can compute which it shall compute: 0 streams everything, 1 leaves nothing to stream
  /// that need not be.
  std::optional<double> cpu_share{};
};

/// What a pass takes, once what stays in the arena from one pass to the next is settled. The parts
/// overlap: `link` works beside the others, which come one after another.
struct PlacementPrediction {
  double seconds = 0;
  double link = 0;          ///< copying, where nothing else reads host memory
  double cpu = 0;           ///< products of CPU units, as slow as copies beside them make them
  double gpu = 0;           ///< steps of the GPU
  double handover = 0;      ///< of activations to CPU units and back
  bool link_bound = false;  ///< whether the copies never rest
  Bytes resident;           ///< pages that stay in the arena
  Bytes streamed;           ///< pages that are copied in each pass
  Bytes on_cpu;             ///< weights of CPU units
  /// What no placement can beat: what the arena does not hold, moved by link and CPU at once, or
  /// all weights, read by whichever of GPU and CPU reads faster.
  double bound = 0;
};

/// The places of a graph's steps, and what is predicted of them.
struct Placement {
  Places places;
  PlacementPrediction predicted;
};

/// Places the steps of a pass that is repeated, as generation does. Units are placed as a whole:
/// the steps of one layer's Op::ffn_gate_up and Op::ffn_down, on the GPU or on the CPU. All else
/// stays on the GPU, where the key-value cache is. Of the assignments that take as many units of
/// each size from the GPU, the one that takes them evenly from all layers stands for all, so that
/// copies that run ahead find a CPU unit to hide behind everywhere in the pass.
///
/// Of these it returns the one with the least predicted time; of equally fast ones, the one with
/// the fewest bytes on the CPU. With the same graph, page and batch, more arena, a faster link and
/// a faster CPU never predict a longer time.
///
/// A pure function. `tensors` are GgufModel::tensors(). Throws std::invalid_argument for rates of
/// link and GPU that are not positive, or a page of no bytes, and BudgetError if no assignment's
/// largest step fits the arena.
TENSOR_PAGER_EXPORT Placement place(const Graph& graph, std::span<const TensorInfo> tensors,
                                    const PlacementRates& rates, const PlacementRequest& request);

/// What is predicted of given places; PlacementRequest::cpu_share is not looked at.
///
/// A token takes its steps one after another, G seconds on the GPU, H in handovers and the rest on
/// the CPU, and the link copies beside all of them. The pager keeps all pages of the GPU's steps if
/// they fit, and else as many as there are frames beside those that run ahead (two of the largest
/// steps, Core), so L bytes are copied a pass. Of the CPU's products, D seconds read memory at
/// cpu.together, and only then do copies run at link.together. So with la = link.alone,
/// lt = link.together, and Ct and Ca the CPU's seconds with and without copies beside it,
///
///     L > la (G + H) + la Ct - (la - lt) D:   L / la + (1 - lt / la) D, the link never rests
///     else, with x = (L - la (G + H)) / (la Ct - (la - lt) D), at least 0:
///                                             G + H + x Ct + (1 - x) Ca
///
/// Rates together that are worse than taking turns would be are raised to that. Throws like place,
/// and std::invalid_argument for places that place would not choose from: other steps on the CPU,
/// units that are divided, types without a kernel.
TENSOR_PAGER_EXPORT PlacementPrediction predict_places(const Graph& graph,
                                                       std::span<const TensorInfo> tensors,
                                                       const Places& places,
                                                       const PlacementRates& rates,
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
