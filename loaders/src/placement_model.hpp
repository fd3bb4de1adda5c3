// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "loaders/placement.hpp"

namespace tensor_pager::loaders {

/// The steps of a layer's feed-forward part, which are placed together.
struct PlacementUnit {
  std::uint32_t layer = 0;
  std::vector<std::uint32_t> steps{};
  StepCost cost{};
  std::map<TensorType, std::uint64_t> matrices{};  ///< bytes by type
  bool has_kernels = true;                         ///< whether the CPU can compute it
  std::uint64_t own_pages = 0;                     ///< that only this unit reads
  std::uint64_t largest_step = 0;                  ///< pages
};

/// A graph, a machine and a budget, made ready to be asked what an assignment of units takes.
class PlacementModel {
 public:
  PlacementModel(const Graph& graph, std::span<const TensorInfo> tensors,
                 const PlacementRates& rates, const PlacementRequest& request);

  const std::vector<PlacementUnit>& units() const { return units_; }
  /// With taken together rates that are no worse than taking turns.
  const PlacementRates& rates() const { return rates_; }

  /// Pages of the largest step that is left to the GPU. `on_cpu` is by unit.
  std::uint64_t largest_step(const std::vector<bool>& on_cpu) const;
  std::uint64_t frames() const { return frames_; }
  /// Prefetch depths that are worth a try, in frames, the pager's own first. The largest step fits
  /// the arena.
  std::vector<std::uint64_t> depths(const std::vector<bool>& on_cpu) const;
  /// No prediction for the same units and frames is less: copies and the CPU overlap as if there
  /// were room for any number of pages ahead. Seconds.
  double least_seconds(const std::vector<bool>& on_cpu, std::uint64_t depth) const;
  PlacementPrediction predict(const std::vector<bool>& on_cpu, std::uint64_t depth) const;

  Places places(const std::vector<bool>& on_cpu) const;
  /// By unit. Throws std::invalid_argument if units cannot be placed so.
  std::vector<bool> units_of(const Places& places) const;

 private:
  void add_steps(std::span<const TensorInfo> tensors);
  void count_pages();
  bool has_kernels(const Step& step, std::span<const TensorInfo> tensors) const;
  /// What an assignment adds up to.
  struct Sums {
    StepCost gpu{};
    StepCost cpu{};
    double handover = 0;
    std::uint64_t kept = 0;      // pages
    std::uint64_t streamed = 0;  // pages
    double copied = 0;           // bytes
  };
  struct Flow;

  Sums sums(const std::vector<bool>& on_cpu, std::uint64_t depth) const;
  Flow settled_flow(const std::vector<bool>& on_cpu, const Sums& sums, std::uint64_t depth) const;
  Flow after_pass(const std::vector<bool>& on_cpu, const Sums& sums, Flow flow) const;
  std::uint64_t gpu_pages(const std::vector<bool>& on_cpu) const;
  double bound() const;

  const Graph& graph_;
  PlacementRates rates_;
  PlacementRequest request_;
  std::uint64_t frames_ = 0;
  std::vector<StepCost> costs_;           // by step
  std::vector<std::uint32_t> unit_of_{};  // by step
  std::vector<PlacementUnit> units_;
  StepCost everything_;
  StepCost always_gpu_;
  std::uint64_t always_gpu_pages_ = 0;
  std::uint64_t always_gpu_largest_ = 0;
  std::vector<std::vector<std::uint32_t>> shared_pages_;  // the units that read each, two or more
};

}  // namespace tensor_pager::loaders
