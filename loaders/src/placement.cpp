// SPDX-License-Identifier: Apache-2.0
#include "loaders/placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "pager/errors.hpp"
#include "placement_model.hpp"

namespace tensor_pager::loaders {
namespace {

// So many assignments are tried at most: some milliseconds.
constexpr std::uint64_t kMostCandidates = 1 << 12;

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

/// An assignment by how many units of each class run on the CPU, and a prefetch depth.
struct Candidate {
  std::vector<std::size_t> counts{};
  std::uint64_t depth = 0;
  double from_asked = 0;  // bytes
  double least_seconds = 0;
  double bytes = 0;  // on the CPU
};

/// Finds the best of all candidates.
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

  struct Found {
    std::vector<bool> on_cpu{};  // by unit
    std::uint64_t depth = 0;
    PlacementPrediction predicted{};
  };

  /// Nothing if no candidate fits.
  std::optional<Found> best() {
    std::vector<std::size_t> counts(classes_.size());
    collect(0, counts);
    std::ranges::sort(candidates_, {}, [](const Candidate& c) {
      return std::tuple(c.from_asked, c.least_seconds, c.bytes, c.depth);
    });
    std::optional<Found> best;
    for (const Candidate& c : candidates_) {
      if (c.from_asked > candidates_.front().from_asked) break;
      if (best && c.least_seconds > best->predicted.seconds) break;  // and so are all others
      const std::vector<bool> on_cpu = assignment(c.counts);
      const PlacementPrediction p = model_.predict(on_cpu, c.depth);
      const auto rank = [](const PlacementPrediction& q) { return std::pair(q.seconds, q.on_cpu); };
      if (!best || rank(p) < rank(best->predicted)) best = Found{on_cpu, c.depth, p};
    }
    return best;
  }
  std::uint64_t least_frames() const { return least_frames_; }

 private:
  void collect(std::size_t at, std::vector<std::size_t>& counts) {
    if (at == classes_.size()) return add(counts);
    for (counts[at] = 0; counts[at] <= classes_[at].units.size(); ++counts[at])
      collect(at + 1, counts);
  }

  std::vector<bool> assignment(const std::vector<std::size_t>& counts) const {
    std::vector<bool> on_cpu(model_.units().size(), false);
    for (std::size_t i = 0; i < classes_.size(); ++i) {
      const std::size_t n = classes_[i].units.size();
      take_evenly(classes_[i], counts[i], n * (2 * i + 1) / (2 * classes_.size()), on_cpu);
    }
    return on_cpu;
  }

  void add(const std::vector<std::size_t>& counts) {
    const std::vector<bool> on_cpu = assignment(counts);
    const std::uint64_t frames = model_.largest_step(on_cpu);
    least_frames_ = std::min(least_frames_, frames);
    if (frames > model_.frames()) return;
    double bytes = 0;
    for (std::size_t u = 0; u < on_cpu.size(); ++u) {
      if (on_cpu[u]) bytes += model_.units()[u].cost.bytes;
    }
    for (const std::uint64_t depth : model_.depths(on_cpu)) {
      candidates_.push_back({.counts = counts,
                             .depth = depth,
                             .from_asked = asked_ ? std::abs(bytes - *asked_) : 0,
                             .least_seconds = model_.least_seconds(on_cpu, depth),
                             .bytes = bytes});
    }
  }

  const PlacementModel& model_;
  std::vector<SizeClass> classes_;
  std::optional<double> asked_;  // bytes on the CPU
  std::vector<Candidate> candidates_;
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
  return {.places = model.places(best->on_cpu),
          .prefetch_depth = static_cast<std::uint32_t>(best->depth),
          .predicted = best->predicted};
}

Placement predict_places(const Graph& graph, std::span<const TensorInfo> tensors,
                         const Places& places, const PlacementRates& rates,
                         const PlacementRequest& request) {
  const PlacementModel model(graph, tensors, rates, request);
  const std::vector<bool> on_cpu = model.units_of(places);
  const std::uint64_t frames = model.largest_step(on_cpu);
  if (frames > model.frames()) throw_too_small(request.arena, request.page * frames);
  Placement best{.places = places};
  for (const std::uint64_t depth : model.depths(on_cpu)) {
    const PlacementPrediction p = model.predict(on_cpu, depth);
    if (best.predicted.seconds > 0 && p.seconds >= best.predicted.seconds) continue;
    best.prefetch_depth = static_cast<std::uint32_t>(depth);
    best.predicted = p;
  }
  return best;
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
