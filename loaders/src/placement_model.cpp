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

constexpr std::uint64_t kLeastDepth = 4;  // Core's

StepCost cost_of(const Step& step, std::span<const TensorInfo> tensors, const PlacementRates& rates,
                 std::uint32_t batch) {
  StepCost cost;
  for (const WeightSlice& slice : step.weights) {
    const TensorInfo& tensor = tensors[slice.tensor];
    const auto bytes = static_cast<double>(slice.bytes.size.count);
    const double operations = is_vector(tensor) ? 0
                                                : 2.0 * static_cast<double>(tensor.ne[0]) *
                                                      static_cast<double>(slice.rows) * batch;
    const auto kernel = rates.cpu_kernels.find(tensor.type);
    const CpuKernelRate limits =
        kernel == rates.cpu_kernels.end() ? CpuKernelRate{} : kernel->second;
    const double kernel_seconds =
        std::max(limited(bytes, limits.weights), limited(operations, limits.arithmetic));
    const double memory = limited(bytes, rates.cpu.together);
    cost.bytes += bytes;
    cost.gpu +=
        std::max(limited(bytes, rates.gpu_memory), limited(operations, rates.gpu_arithmetic));
    cost.cpu_alone += std::max(limited(bytes, rates.cpu.alone), kernel_seconds);
    cost.cpu_beside += std::max(memory, kernel_seconds);
    cost.cpu_memory += memory;
  }
  cost.gpu += rates.gpu_step;
  return cost;
}

}  // namespace

StepCost& StepCost::operator+=(const StepCost& other) {
  bytes += other.bytes;
  gpu += other.gpu;
  cpu_alone += other.cpu_alone;
  cpu_beside += other.cpu_beside;
  cpu_memory += other.cpu_memory;
  return *this;
}

std::vector<StepCost> step_costs(const Graph& graph, std::span<const TensorInfo> tensors,
                                 const PlacementRates& rates, std::uint32_t batch) {
  std::vector<StepCost> costs;
  for (const Step& step : graph.steps) costs.push_back(cost_of(step, tensors, rates, batch));
  return costs;
}

double handover_seconds(const Graph& graph, const PlacementRates& rates, std::uint32_t batch) {
  const double activations = 2.0 * sizeof(float) * graph.config.embedding_length * batch;
  return rates.handover + activations / rates.link.alone;
}

PlacementRates taking_turns(PlacementRates rates) {
  SharedRate& link = rates.link;
  SharedRate& cpu = rates.cpu;
  if (cpu.alone <= 0 || link.alone <= 0) return rates;
  // What stands still altogether would be taken for what has no limit.
  constexpr double kLeast = 1e-3;
  link.together = std::clamp(link.together, kLeast * link.alone, link.alone);
  cpu.together = std::clamp(cpu.together, kLeast * cpu.alone, cpu.alone);
  const double share = link.together / link.alone + cpu.together / cpu.alone;
  if (share < 1) {
    link.together /= share;
    cpu.together /= share;
  }
  return rates;
}

PlacementModel::PlacementModel(const Graph& graph, std::span<const TensorInfo> tensors,
                               const PlacementRates& rates, const PlacementRequest& request)
    : graph_(graph), rates_(taking_turns(rates)), request_(request) {
  if (!(rates.link.alone > 0 && rates.gpu_memory > 0 && request.page.count > 0)) {
    throw std::invalid_argument("placement needs rates of link and GPU, and the size of a page");
  }
  frames_ = request.arena / request.page;
  add_steps(tensors);
  count_pages();
}

void PlacementModel::add_steps(std::span<const TensorInfo> tensors) {
  costs_ = step_costs(graph_, tensors, rates_, request_.batch);
  unit_of_.assign(graph_.steps.size(), kAlways);
  for (std::uint32_t i = 0; i < graph_.steps.size(); ++i) {
    const Step& step = graph_.steps[i];
    const StepCost& cost = costs_[i];
    everything_ += cost;
    if (!can_move(step.op)) {
      always_gpu_ += cost;
      continue;
    }
    if (units_.empty() || units_.back().layer != step.layer)
      units_.push_back({.layer = step.layer});
    PlacementUnit& unit = units_.back();
    unit_of_[i] = static_cast<std::uint32_t>(units_.size() - 1);
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

// A page is read by whatever has a byte in it: neighbours share the one at their border.
void PlacementModel::count_pages() {
  std::map<std::uint64_t, std::set<std::uint32_t>> readers;
  for (std::uint32_t i = 0; i < graph_.steps.size(); ++i) {
    const std::vector<std::uint64_t> pages = pages_read(graph_.steps[i], request_.page);
    const std::uint32_t unit = unit_of_[i];
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

// Multiples of what the pager would take, so that they do not depend on the arena: more of it
// then offers the same choices and others.
std::vector<std::uint64_t> PlacementModel::depths(const std::vector<bool>& on_cpu) const {
  const std::uint64_t step = largest_step(on_cpu);
  const std::uint64_t most = frames_ - step;
  if (request_.prefetch_depth) return {std::min<std::uint64_t>(*request_.prefetch_depth, most)};
  const std::uint64_t usual = std::max(kLeastDepth, 2 * step);
  std::vector<std::uint64_t> depths;
  for (const std::uint64_t halves : {2U, 3U, 4U, 5U, 6U, 8U, 10U, 12U, 16U}) {
    const std::uint64_t depth = std::min(usual * halves / 2, most);
    if (depths.empty() || depths.back() < depth) depths.push_back(depth);
  }
  return depths;
}

PlacementModel::Sums PlacementModel::sums(const std::vector<bool>& on_cpu,
                                          std::uint64_t depth) const {
  Sums sums{.gpu = always_gpu_};
  double units = 0;
  for (std::size_t u = 0; u < units_.size(); ++u) {
    (on_cpu[u] ? sums.cpu : sums.gpu) += units_[u].cost;
    units += on_cpu[u] ? 1 : 0;
  }
  sums.handover = units * handover_seconds(graph_, rates_, request_.batch);
  const std::uint64_t pages = gpu_pages(on_cpu);
  if (pages <= frames_) {
    sums.kept = pages;
  } else if (depth > largest_step(on_cpu)) {
    sums.kept = frames_ - depth;
  }
  sums.streamed = pages - sums.kept;
  sums.copied = static_cast<double>(request_.page.count) * static_cast<double>(sums.streamed);
  return sums;
}

// With G, H the seconds of GPU and handovers, L the bytes copied, D the seconds for which the CPU
// reads memory, Ct and Ca its seconds with and without copies beside it, la and lt the link's
// rates: either the link never rests, L = la (T - D) + lt D, or the part
// x = (L - la (G + H)) / (la Ct - (la - lt) D) of the CPU's work has copies beside it.
double PlacementModel::least_seconds(const std::vector<bool>& on_cpu, std::uint64_t depth) const {
  const Sums s = sums(on_cpu, depth);
  const double la = rates_.link.alone;
  const double slowed = la - rates_.link.together;
  const double rest = s.gpu.gpu + s.handover;
  const double beside_cpu = la * s.cpu.cpu_beside - slowed * s.cpu.cpu_memory;
  if (s.copied > la * rest + beside_cpu) return (s.copied + slowed * s.cpu.cpu_memory) / la;
  const double x = s.copied > la * rest ? (s.copied - la * rest) / beside_cpu : 0;
  return rest + x * s.cpu.cpu_beside + (1 - x) * s.cpu.cpu_alone;
}

// A pass, with copies as a fluid that runs ahead of the steps that need it.
struct PlacementModel::Flow {
  double link = 0;    // bytes per second
  double window = 0;  // bytes that copies may run ahead by
  double lead = 0;    // bytes copied ahead
  double cpu = 0;
  double stalled = 0;

  // What a step uses is not ahead any more.
  void use(double bytes) {
    stalled += std::max(bytes - lead, 0.0) / link;
    lead = std::max(lead - bytes, 0.0);
  }
  void copy_for(double seconds) { lead = std::min(window, lead + link * seconds); }
  void compute_on_cpu(const StepCost& cost, double slowed) {
    const double rate =
        link - (cost.cpu_beside > 0 ? slowed * cost.cpu_memory / cost.cpu_beside : 0);
    const double room = std::max(window - lead, 0.0);
    const double beside = std::min(1.0, room / (rate * cost.cpu_beside));
    lead += beside * rate * cost.cpu_beside;
    cpu += beside * cost.cpu_beside + (1 - beside) * cost.cpu_alone;
  }
};

// A pass changes how far copies are ahead by a shift and limits. So passes settle either at what
// one that begins with copies as far ahead as they may be ends with, or, if each falls back
// further, at what one that begins with none ends with.
PlacementModel::Flow PlacementModel::settled_flow(const std::vector<bool>& on_cpu, const Sums& sums,
                                                  std::uint64_t depth) const {
  const std::uint64_t ahead = depth - std::min(depth, largest_step(on_cpu));
  const double window = static_cast<double>(request_.page.count) * static_cast<double>(ahead);
  Flow begin{.link = rates_.link.alone, .window = window, .lead = window};
  Flow flow = after_pass(on_cpu, sums, begin);
  const double first = flow.lead;
  flow = after_pass(on_cpu, sums, flow);
  if (flow.lead >= first * (1 - 1e-9)) return flow;
  begin.lead = 0;
  return after_pass(on_cpu, sums, after_pass(on_cpu, sums, begin));
}

PlacementModel::Flow PlacementModel::after_pass(const std::vector<bool>& on_cpu, const Sums& sums,
                                                Flow flow) const {
  const double handover = handover_seconds(graph_, rates_, request_.batch);
  const double needed = sums.copied / sums.gpu.bytes;
  const double slowed = rates_.link.alone - rates_.link.together;
  flow.cpu = flow.stalled = 0;
  for (std::uint32_t i = 0; i < costs_.size(); ++i) {
    const std::uint32_t unit = unit_of_[i];
    if (unit != kAlways && on_cpu[unit]) {
      if (units_[unit].steps.front() == i) flow.copy_for(handover);
      flow.compute_on_cpu(costs_[i], slowed);
    } else {
      flow.use(needed * costs_[i].bytes);
      flow.copy_for(costs_[i].gpu);
    }
  }
  return flow;
}

PlacementPrediction PlacementModel::predict(const std::vector<bool>& on_cpu,
                                            std::uint64_t depth) const {
  const Sums s = sums(on_cpu, depth);
  PlacementPrediction p;
  p.resident = request_.page * s.kept;
  p.streamed = request_.page * s.streamed;
  p.on_cpu = {static_cast<std::uint64_t>(s.cpu.bytes)};
  p.bound = bound();
  p.gpu = s.gpu.gpu;
  p.handover = s.handover;
  p.link = s.copied / rates_.link.alone;
  p.cpu = s.cpu.cpu_alone;
  if (s.streamed > 0) {
    const Flow f = settled_flow(on_cpu, s, depth);
    p.cpu = f.cpu;
    p.stalled = f.stalled;
  }
  p.seconds = p.gpu + p.handover + p.cpu + p.stalled;
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
  if (places.size() != graph_.steps.size())
    throw std::invalid_argument("each step of the graph needs a place");
  std::vector<bool> on_cpu;
  for (const PlacementUnit& unit : units_) {
    on_cpu.push_back(places[unit.steps.front()] == Place::cpu);
    if (on_cpu.back() && !unit.has_kernels)
      throw std::invalid_argument("the CPU has no kernel for a unit that is placed there");
  }
  if (this->places(on_cpu) != places)
    throw std::invalid_argument("only whole feed-forward parts can be placed on the CPU");
  return on_cpu;
}

}  // namespace tensor_pager::loaders
