// SPDX-License-Identifier: Apache-2.0
#include "placement_model.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <stdexcept>

namespace tensor_pager::loaders {
namespace {

// No unit: a step that stays on the GPU.
constexpr std::uint32_t kAlways = 0xffffffff;

bool can_move(Op op) {
  return op == Op::ffn_gate_up || op == Op::ffn_down;
}

void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

// Rates that taking turns could beat are those of taking turns.
void take_turns(SharedRate& link, SharedRate& cpu) {
  link.together = std::clamp(link.together, 0.0, link.alone);
  cpu.together = std::clamp(cpu.together, 0.0, cpu.alone);
  if (cpu.alone <= 0) return;
  const double share = link.together / link.alone + cpu.together / cpu.alone;
  if (share >= 1) return;
  if (share <= 0) {
    link.together = link.alone / 2;
    cpu.together = cpu.alone / 2;
    return;
  }
  link.together /= share;
  cpu.together /= share;
}

double limited(double amount, double rate) {
  return rate > 0 ? amount / rate : 0;
}

bool is_vector(const TensorInfo& tensor) {
  return tensor.dimensions == 1;
}

std::vector<std::uint64_t> pages_read(const Step& step, Bytes page) {
  std::vector<std::uint64_t> pages;
  for (const ByteRange& range : reads(step)) {
    if (range.size.count == 0) continue;
    const std::uint64_t last = (range.end() - Bytes{1}) / page;
    for (std::uint64_t p = range.offset / page; p <= last; ++p) {
      if (pages.empty() || pages.back() < p) pages.push_back(p);
    }
  }
  return pages;
}

// Core's choice: as many pages as frames, or else as many as frames that need not run ahead.
std::uint64_t pages_kept(std::uint64_t pages, std::uint64_t frames, std::uint64_t largest_step) {
  constexpr std::uint64_t kLeastDepth = 4;
  if (pages <= frames) return pages;
  const std::uint64_t depth =
      std::min(std::max(kLeastDepth, 2 * largest_step), frames - largest_step);
  return depth > largest_step ? frames - depth : 0;
}

}  // namespace

PlacedCost& PlacedCost::operator+=(const PlacedCost& other) {
  bytes += other.bytes;
  gpu += other.gpu;
  cpu_alone += other.cpu_alone;
  cpu_beside += other.cpu_beside;
  cpu_memory += other.cpu_memory;
  return *this;
}

PlacementModel::PlacementModel(const Graph& graph, std::span<const TensorInfo> tensors,
                               const PlacementRates& rates, const PlacementRequest& request)
    : graph_(graph), rates_(rates), request_(request) {
  require(rates.link.alone > 0, "placement needs the rate of the link");
  require(rates.gpu_memory > 0, "placement needs the rate of the GPU's memory");
  require(request.page.count > 0, "placement needs the size of a page");
  take_turns(rates_.link, rates_.cpu);
  frames_ = request.arena / request.page;
  add_steps(tensors);
  count_pages();
}

void PlacementModel::add_steps(std::span<const TensorInfo> tensors) {
  for (std::uint32_t i = 0; i < graph_.steps.size(); ++i) {
    const Step& step = graph_.steps[i];
    const PlacedCost cost = cost_of(step, tensors);
    everything_ += cost;
    if (!can_move(step.op)) {
      always_gpu_ += cost;
      continue;
    }
    if (units_.empty() || units_.back().layer != step.layer)
      units_.push_back({.layer = step.layer});
    PlacementUnit& unit = units_.back();
    unit.steps.push_back(i);
    unit.cost += cost;
    unit.has_kernels = unit.has_kernels && has_kernels(step, tensors);
    for (const WeightSlice& slice : step.weights) {
      const TensorInfo& tensor = tensors[slice.tensor];
      if (!is_vector(tensor)) unit.matrices[tensor.type] += slice.bytes.size.count;
    }
  }
}

bool PlacementModel::has_kernels(const Step& step, std::span<const TensorInfo> tensors) const {
  if (rates_.cpu.alone <= 0) return false;
  return std::ranges::all_of(step.weights, [&](const WeightSlice& slice) {
    const TensorInfo& tensor = tensors[slice.tensor];
    return is_vector(tensor) || rates_.cpu_kernels.contains(tensor.type);
  });
}

PlacedCost PlacementModel::cost_of(const Step& step, std::span<const TensorInfo> tensors) const {
  PlacedCost cost;
  for (const WeightSlice& slice : step.weights) {
    const TensorInfo& tensor = tensors[slice.tensor];
    const auto bytes = static_cast<double>(slice.bytes.size.count);
    const double operations = is_vector(tensor)
                                  ? 0
                                  : 2.0 * static_cast<double>(tensor.ne[0]) *
                                        static_cast<double>(slice.rows) * request_.batch;
    const auto kernel = rates_.cpu_kernels.find(tensor.type);
    const CpuKernelRate limits =
        kernel == rates_.cpu_kernels.end() ? CpuKernelRate{} : kernel->second;
    const double kernel_seconds =
        std::max(limited(bytes, limits.weights), limited(operations, limits.arithmetic));
    const double memory = limited(bytes, rates_.cpu.together);
    cost.bytes += bytes;
    cost.gpu += std::max(bytes / rates_.gpu_memory, limited(operations, rates_.gpu_arithmetic));
    cost.cpu_alone += std::max(limited(bytes, rates_.cpu.alone), kernel_seconds);
    cost.cpu_beside += std::max(memory, kernel_seconds);
    cost.cpu_memory += memory;
  }
  cost.gpu += rates_.gpu_step;
  return cost;
}

// A page is read by whatever has a byte in it: neighbours share the one at their border.
void PlacementModel::count_pages() {
  std::map<std::uint64_t, std::set<std::uint32_t>> readers;
  std::vector<std::uint32_t> unit_of(graph_.steps.size(), kAlways);
  for (std::uint32_t u = 0; u < units_.size(); ++u) {
    for (const std::uint32_t step : units_[u].steps) unit_of[step] = u;
  }
  for (std::uint32_t i = 0; i < graph_.steps.size(); ++i) {
    const std::vector<std::uint64_t> pages = pages_read(graph_.steps[i], request_.page);
    const std::uint32_t unit = unit_of[i];
    std::uint64_t& largest = unit == kAlways ? always_gpu_largest_ : units_[unit].largest_step;
    largest = std::max<std::uint64_t>(largest, pages.size());
    for (const std::uint64_t page : pages) readers[page].insert(unit);
  }
  for (const auto& [page, units] : readers) {
    if (units.contains(kAlways)) {
      ++always_gpu_pages_;
    } else if (units.size() == 1) {
      ++units_[*units.begin()].own_pages;
    } else {
      shared_pages_.emplace_back(units.begin(), units.end());
    }
  }
}

std::uint64_t PlacementModel::largest_step(const std::vector<bool>& on_cpu) const {
  std::uint64_t largest = always_gpu_largest_;
  for (std::size_t u = 0; u < units_.size(); ++u) {
    if (!on_cpu[u]) largest = std::max(largest, units_[u].largest_step);
  }
  return largest;
}

std::uint64_t PlacementModel::gpu_pages(const std::vector<bool>& on_cpu) const {
  std::uint64_t pages = always_gpu_pages_;
  for (std::size_t u = 0; u < units_.size(); ++u) {
    if (!on_cpu[u]) pages += units_[u].own_pages;
  }
  for (const std::vector<std::uint32_t>& units : shared_pages_) {
    if (std::ranges::any_of(units, [&](std::uint32_t u) { return !on_cpu[u]; })) ++pages;
  }
  return pages;
}

double PlacementModel::bound() const {
  const double arena = static_cast<double>(request_.page.count) * static_cast<double>(frames_);
  const double moved = std::max(everything_.bytes - arena, 0.0);
  const double moving =
      std::max({rates_.link.alone, rates_.cpu.alone, rates_.link.together + rates_.cpu.together});
  return std::max(moved / moving,
                  everything_.bytes / std::max(rates_.gpu_memory, rates_.cpu.alone));
}

PlacementPrediction PlacementModel::predict(const std::vector<bool>& on_cpu) const {
  PlacedCost gpu = always_gpu_;
  PlacedCost cpu;
  double units = 0;
  for (std::size_t u = 0; u < units_.size(); ++u) {
    (on_cpu[u] ? cpu : gpu) += units_[u].cost;
    units += on_cpu[u] ? 1 : 0;
  }
  const std::uint64_t pages = gpu_pages(on_cpu);
  const std::uint64_t kept = pages_kept(pages, frames_, largest_step(on_cpu));
  PlacementPrediction p;
  p.resident = request_.page * kept;
  p.streamed = request_.page * (pages - kept);
  p.on_cpu = {static_cast<std::uint64_t>(cpu.bytes)};
  p.bound = bound();
  p.gpu = gpu.gpu;
  const double activations = 2.0 * sizeof(float) * graph_.config.embedding_length * request_.batch;
  p.handover = units * (rates_.handover + activations / rates_.link.alone);

  const double la = rates_.link.alone;
  const double copied = static_cast<double>(p.streamed.count);
  const double slowed = la - rates_.link.together;
  const double beside_cpu = la * cpu.cpu_beside - slowed * cpu.cpu_memory;
  const double beside_rest = la * (p.gpu + p.handover);
  p.link = copied / la;
  p.link_bound = copied > beside_rest + beside_cpu;
  if (p.link_bound) {
    p.cpu = cpu.cpu_beside;
    p.seconds = p.link + slowed / la * cpu.cpu_memory;
    return p;
  }
  const double overlap = copied > beside_rest ? (copied - beside_rest) / beside_cpu : 0;
  p.cpu = overlap * cpu.cpu_beside + (1 - overlap) * cpu.cpu_alone;
  p.seconds = p.gpu + p.handover + p.cpu;
  return p;
}

Places PlacementModel::places(const std::vector<bool>& on_cpu) const {
  Places places(graph_.steps.size(), Place::gpu);
  for (std::size_t u = 0; u < units_.size(); ++u) {
    for (const std::uint32_t step : units_[u].steps) {
      if (on_cpu[u]) places[step] = Place::cpu;
    }
  }
  return places;
}

std::vector<bool> PlacementModel::units_of(const Places& places) const {
  require(places.size() == graph_.steps.size(), "a place for each step of the graph is needed");
  std::vector<bool> on_cpu;
  for (const PlacementUnit& unit : units_) {
    on_cpu.push_back(places[unit.steps.front()] == Place::cpu);
    require(!on_cpu.back() || unit.has_kernels, "the CPU cannot compute one of the units");
  }
  require(this->places(on_cpu) == places, "only whole feed-forward parts run on the CPU");
  return on_cpu;
}

}  // namespace tensor_pager::loaders
