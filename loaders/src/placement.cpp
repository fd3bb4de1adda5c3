// SPDX-License-Identifier: Apache-2.0
#include "loaders/placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <utility>

#include "pager/errors.hpp"
#include "placement_model.hpp"

namespace tensor_pager::loaders {
namespace {

// So many assignments are tried at most: some milliseconds.
constexpr std::uint64_t kMostCandidates = 1 << 14;

/// Units that cost about the same: of those, it matters how many run on the CPU, and that they are
/// spread over the pass.
struct SizeClass {
  std::vector<std::uint32_t> units{};
  double smallest = 0;  // bytes
  double largest = 0;
};

std::vector<SizeClass> classes_of(const std::vector<PlacementUnit>& units) {
  std::vector<std::uint32_t> movable;
  for (std::uint32_t u = 0; u < units.size(); ++u) {
    if (units[u].has_kernels) movable.push_back(u);
  }
  const auto size = [&](std::uint32_t u) {
    return std::pair(units[u].cost.bytes, units[u].matrices);
  };
  std::ranges::stable_sort(movable, {}, size);
  std::vector<SizeClass> classes;
  for (const std::uint32_t u : movable) {
    const double bytes = units[u].cost.bytes;
    if (classes.empty() || size(classes.back().units.front()) != size(u))
      classes.push_back({.smallest = bytes, .largest = bytes});
    classes.back().units.push_back(u);
  }
  return classes;
}

double candidates(const std::vector<SizeClass>& classes) {
  double product = 1;
  for (const SizeClass& c : classes) product *= static_cast<double>(c.units.size()) + 1;
  return product;
}

// The neighbours that are most alike become one class. This looks at the model alone, so that the
// same assignments compete on every machine and in every arena, and a better one cannot lose.
void merge_alike(std::vector<SizeClass>& classes) {
  while (candidates(classes) > static_cast<double>(kMostCandidates)) {
    std::size_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i + 1 < classes.size(); ++i) {
      const double ratio = classes[i + 1].largest / std::max(classes[i].smallest, 1.0);
      if (ratio < least) {
        least = ratio;
        best = i;
      }
    }
    SizeClass& into = classes[best];
    const SizeClass& from = classes[best + 1];
    into.units.insert(into.units.end(), from.units.begin(), from.units.end());
    into.largest = from.largest;
    std::ranges::sort(into.units);
    classes.erase(classes.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

// `count` of the class's units, as evenly as they can lie. Each class begins at another phase, so
// that those of two classes do not lie together.
void take_evenly(const SizeClass& c, std::size_t count, std::size_t phase,
                 std::vector<bool>& on_cpu) {
  const std::size_t n = c.units.size();
  for (std::size_t i = 0; i < n; ++i) {
    const bool taken = ((i + 1) * count + phase) / n > (i * count + phase) / n;
    on_cpu[c.units[i]] = taken;
  }
}

/// Looks at every candidate and remembers the best.
class Search {
 public:
  Search(const PlacementModel& model, std::optional<double> cpu_share)
      : model_(model), classes_(classes_of(model.units())) {
    merge_alike(classes_);
    if (!cpu_share) return;
    double movable = 0;
    for (const SizeClass& c : classes_) {
      for (const std::uint32_t u : c.units) movable += model.units()[u].cost.bytes;
    }
    asked_ = std::clamp(*cpu_share, 0.0, 1.0) * movable;
  }

  /// By unit; nothing if no candidate fits.
  std::optional<std::vector<bool>> best() {
    std::vector<bool> on_cpu(model_.units().size(), false);
    try_counts(0, on_cpu);
    return best_;
  }
  std::uint64_t least_frames() const { return least_frames_; }

 private:
  void try_counts(std::size_t at, std::vector<bool>& on_cpu) {
    if (at == classes_.size()) return consider(on_cpu);
    const std::size_t n = classes_[at].units.size();
    const std::size_t phase = n * (2 * at + 1) / (2 * classes_.size());
    for (std::size_t count = 0; count <= n; ++count) {
      take_evenly(classes_[at], count, std::min(phase, n - 1), on_cpu);
      try_counts(at + 1, on_cpu);
    }
  }

  void consider(const std::vector<bool>& on_cpu) {
    const std::uint64_t frames = model_.largest_step(on_cpu);
    least_frames_ = std::min(least_frames_, frames);
    if (frames > model_.frames()) return;
    const PlacementPrediction p = model_.predict(on_cpu);
    const auto bytes = static_cast<double>(p.on_cpu.count);
    const Rank rank{asked_ ? std::abs(bytes - *asked_) : 0, p.seconds, bytes};
    if (best_ && !(rank < rank_)) return;
    best_ = on_cpu;
    rank_ = rank;
  }

  struct Rank {
    double from_asked = 0;
    double seconds = 0;
    double bytes = 0;
    auto operator<=>(const Rank&) const = default;
  };

  const PlacementModel& model_;
  std::vector<SizeClass> classes_;
  std::optional<double> asked_;  // bytes on the CPU
  std::optional<std::vector<bool>> best_;
  Rank rank_;
  std::uint64_t least_frames_ = std::numeric_limits<std::uint64_t>::max();
};

[[noreturn]] void throw_too_small(Bytes arena, Bytes minimum) {
  throw BudgetError(
      fmt::format("the arena of {} cannot hold the largest step; give it at least {} bytes",
                  tensor_pager::to_string(arena), minimum.count),
      minimum);
}

}  // namespace

std::string_view to_string(Place place) {
  return place == Place::gpu ? "GPU" : "CPU";
}

Placement place(const Graph& graph, std::span<const TensorInfo> tensors,
                const PlacementRates& rates, const PlacementRequest& request) {
  const PlacementModel model(graph, tensors, rates, request);
  Search search(model, request.cpu_share);
  const auto best = search.best();
  if (!best) throw_too_small(request.arena, request.page * search.least_frames());
  return {.places = model.places(*best), .predicted = model.predict(*best)};
}

PlacementPrediction predict_places(const Graph& graph, std::span<const TensorInfo> tensors,
                                   const Places& places, const PlacementRates& rates,
                                   const PlacementRequest& request) {
  const PlacementModel model(graph, tensors, rates, request);
  const std::vector<bool> on_cpu = model.units_of(places);
  const std::uint64_t frames = model.largest_step(on_cpu);
  if (frames > model.frames()) throw_too_small(request.arena, request.page * frames);
  return model.predict(on_cpu);
}

std::vector<PlacedStep> schedule(const Graph& graph, std::uint32_t ubatches, const Places& places) {
  std::vector<PlacedStep> order;
  StepIndex next{0};
  for (const ScheduledStep& entry : schedule(graph, ubatches)) {
    PlacedStep placed{entry.step, entry.ubatch, places.at(entry.step)};
    if (placed.place == Place::gpu) {
      placed.plan_step = next;
      ++next;
    }
    order.push_back(placed);
  }
  return order;
}

AccessPlan access_plan(const Graph& graph, const PassShape& shape, const Places& places) {
  AccessPlan plan = access_plan(graph, shape);
  std::vector<PlanStep> all = std::move(plan.steps);
  plan.steps.clear();
  const std::vector<PlacedStep> order = schedule(graph, shape.ubatches, places);
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (order[i].place == Place::gpu) plan.steps.push_back(std::move(all[i]));
  }
  return plan;
}

}  // namespace tensor_pager::loaders
