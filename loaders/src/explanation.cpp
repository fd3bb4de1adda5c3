// SPDX-License-Identifier: Apache-2.0
#include "loaders/explanation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "pager/counted.hpp"
#include "pager/errors.hpp"
#include "placement_model.hpp"

namespace tensor_pager::loaders {
namespace {

constexpr std::size_t kLayersWidth = 26;
constexpr double kGiga = 1e9;

std::string_view kind_of(Op op) {
  switch (op) {
    case Op::attention_input:
    case Op::attention_output:
      return "attention";
    case Op::ffn_gate_up:
    case Op::ffn_down:
      return "feed-forward";
    case Op::output:
      return "output";
    default:
      return "experts";
  }
}

/// Says why, and groups by it.
class Explainer {
 public:
  Explainer(const Graph& graph, std::span<const TensorInfo> tensors, const PlacementRates& rates,
            const PlacementRequest& request, const Placement& placement)
      : graph_(graph),
        tensors_(tensors),
        rates_(rates),
        request_(request),
        placement_(placement),
        costs_(step_costs(graph, tensors, rates, request.batch)) {}

  std::vector<ExplainedPart> parts() const {
    std::vector<ExplainedPart> parts;
    for (std::uint32_t i = 0; i < graph_.steps.size(); ++i) add(i, parts);
    for (ExplainedPart& part : parts) {
      if (part.place == Place::gpu) divide(part);
    }
    return parts;
  }

 private:
  void add(std::uint32_t i, std::vector<ExplainedPart>& parts) const {
    const Step& step = graph_.steps[i];
    const Place place = placement_.places.at(i);
    const std::string why = reason(step, place);
    auto part = std::ranges::find_if(parts, [&](const ExplainedPart& p) {
      return p.what == kind_of(step.op) && p.place == place && p.why == why;
    });
    if (part == parts.end()) {
      part = parts.insert(
          parts.end(),
          ExplainedPart{
              .what = std::string(kind_of(step.op)), .place = place, .layers = {}, .why = why});
    }
    const bool listed = !part->layers.empty() && part->layers.back() == step.layer;
    if (step.op != Op::output && !listed) part->layers.push_back(step.layer);
    part->weights += Bytes{static_cast<std::uint64_t>(costs_[i].bytes)};
    part->seconds += place == Place::gpu ? costs_[i].gpu : cpu_seconds(i);
  }

  // As much longer than alone as the whole pass has it.
  double cpu_seconds(std::uint32_t i) const {
    StepCost all;
    for (std::size_t k = 0; k < costs_.size(); ++k) {
      if (placement_.places[k] == Place::cpu) all += costs_[k];
    }
    const Step& step = graph_.steps[i];
    const bool first = step.op == Op::ffn_gate_up && step.first_slice;
    return costs_[i].cpu_alone * placement_.predicted.cpu / all.cpu_alone +
           (first ? handover_seconds(graph_, rates_, request_.batch) : 0);
  }

  void divide(ExplainedPart& part) const {
    const PlacementPrediction& p = placement_.predicted;
    const std::uint64_t pages = (p.resident + p.streamed).count;
    if (pages == 0) return;
    const double share = static_cast<double>(p.streamed.count) / static_cast<double>(pages);
    part.streamed = {static_cast<std::uint64_t>(share * static_cast<double>(part.weights.count))};
    part.resident = part.weights - part.streamed;
  }

  std::string reason(const Step& step, Place place) const {
    const std::string_view kind = kind_of(step.op);
    if (kind == "attention") return "the key-value cache is there";
    if (kind == "output") return "logits are needed there";
    if (kind == "experts") return "experts stay together";
    if (place == Place::cpu) return request_.cpu_share ? "as asked for" : "faster than its copies";
    if (rates_.cpu.alone <= 0) return "no CPU to compute it";
    if (const auto type = without_kernel(step.layer))
      return fmt::format("no CPU kernel for {}", to_string(*type));
    if (request_.cpu_share) return "as asked for";
    if (placement_.predicted.streamed == Bytes{0}) return "the arena holds it";
    if (placement_.predicted.on_cpu == Bytes{0}) return "copies are faster than the CPU";
    return "copied while the CPU works";
  }

  // A type of the layer's feed-forward part.
  std::optional<TensorType> without_kernel(std::uint32_t layer) const {
    for (const Step& step : graph_.steps) {
      if (step.layer != layer || kind_of(step.op) != "feed-forward") continue;
      for (const WeightSlice& slice : step.weights) {
        const TensorInfo& tensor = tensors_[slice.tensor];
        if (tensor.dimensions > 1 && !rates_.cpu_kernels.contains(tensor.type)) return tensor.type;
      }
    }
    return std::nullopt;
  }

  const Graph& graph_;
  std::span<const TensorInfo> tensors_;
  const PlacementRates& rates_;
  const PlacementRequest& request_;
  const Placement& placement_;
  std::vector<StepCost> costs_;
};

std::vector<ExplainedAlternative> alternatives(const Graph& graph,
                                               std::span<const TensorInfo> tensors,
                                               const PlacementRates& rates,
                                               PlacementRequest request) {
  std::vector<ExplainedAlternative> all;
  const auto add = [&](const char* what, std::optional<double> share) {
    request.cpu_share = share;
    try {
      all.push_back({what, place(graph, tensors, rates, request).predicted.seconds});
    } catch (const BudgetError&) {
      // The largest step of this one does not fit: it is none.
    }
  };
  if (request.cpu_share) add("what is fastest", {});
  add("nothing on the CPU", 0);
  if (rates.cpu.alone > 0) add("all that can be on the CPU", 1);
  return all;
}

// Cut between numbers.
std::vector<std::string> wrapped(const std::string& text) {
  std::vector<std::string> lines(1);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = text.find(", ", at);
    const std::size_t end = comma == std::string::npos ? text.size() : comma + 1;
    const std::string item = text.substr(at, end - at);
    const bool first = lines.back().empty();
    if (!first && lines.back().size() + 1 + item.size() > kLayersWidth) {
      lines.push_back(item);
    } else {
      lines.back() += (first ? "" : " ") + item;
    }
    at = end + (comma == std::string::npos ? 0 : 1);
  }
  return lines;
}

std::string row(std::string_view what, std::string_view place, std::string_view layers,
                std::string_view weights, std::string_view stays, std::string_view copied,
                std::string_view time, std::string_view why) {
  return fmt::format("{:<13}{:<5}{:<{}}{:>9}{:>9}{:>9}{:>9}  {}", what, place, layers,
                     kLayersWidth + 1, weights, stays, copied, time, why);
}

std::string size_text(Bytes bytes) {
  if (bytes == Bytes{0}) return "-";
  if (bytes < GiB(1)) return fmt::format("{:.0f}M", static_cast<double>(bytes.count) / (1 << 20));
  return fmt::format("{:.2f}G", static_cast<double>(bytes.count) / (1 << 30));
}

std::string microseconds(double seconds) {
  return fmt::format("{:.0f}", 1e6 * seconds);
}

void add_part(const ExplainedPart& part, std::vector<std::string>& out) {
  const std::vector<std::string> layers = wrapped(ranges_text(part.layers));
  out.push_back(row(part.what, to_string(part.place), layers.front(), size_text(part.weights),
                    size_text(part.resident), size_text(part.streamed), microseconds(part.seconds),
                    part.why));
  for (std::size_t i = 1; i < layers.size(); ++i)
    out.push_back(fmt::format("{:18}{}", "", layers[i]));
}

std::string rate_text(const SharedRate& rate) {
  return fmt::format("{:.1f} GB/s ({:.1f} together)", rate.alone / kGiga, rate.together / kGiga);
}

}  // namespace

std::string ranges_text(std::span<const std::uint32_t> numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    if (!text.empty()) text += ", ";
    text += end - i > 1 ? fmt::format("{}-{}", numbers[i], numbers[end - 1])
                        : fmt::format("{}", numbers[i]);
    i = end;
  }
  return text;
}

Explanation explain(std::string pass, const Graph& graph, std::span<const TensorInfo> tensors,
                    const PlacementRates& rates, const PlacementRequest& request,
                    const Placement& placement) {
  const PlacementRates taken = taking_turns(rates);
  return {.pass = std::move(pass),
          .request = request,
          .rates = taken,
          .placement = placement,
          .parts = Explainer(graph, tensors, taken, request, placement).parts(),
          .alternatives = alternatives(graph, tensors, rates, request)};
}

std::vector<std::string> lines(const Explanation& e) {
  const PlacementPrediction& p = e.placement.predicted;
  std::vector<std::string> out;
  out.push_back(fmt::format("{}, {} a pass: {} us predicted, {:.1f} tokens/s", e.pass,
                            counted(e.request.batch, "token"), microseconds(p.seconds),
                            e.request.batch / p.seconds));
  out.push_back(row("part", "on", "layers", "weights", "stays", "copied", "us", "why"));
  for (const ExplainedPart& part : e.parts) add_part(part, out);
  out.push_back(fmt::format("time: GPU {} us, CPU {}, handovers {}, waiting for pages {}",
                            microseconds(p.gpu), microseconds(p.cpu), microseconds(p.handover),
                            microseconds(p.stalled)));
  out.push_back(fmt::format("copies: {} us beside that; up to {} of {} ahead", microseconds(p.link),
                            counted(e.placement.prefetch_depth, "page"),
                            tensor_pager::to_string(e.request.page)));
  for (const ExplainedAlternative& other : e.alternatives)
    out.push_back(fmt::format("instead: {} us with {}", microseconds(other.seconds), other.what));
  out.push_back(fmt::format("bound: {} us, whatever is placed where", microseconds(p.bound)));
  out.push_back(
      fmt::format("rates: link {}, CPU {}", rate_text(e.rates.link), rate_text(e.rates.cpu)));
  out.push_back(fmt::format("       GPU {:.0f} GB/s, {:.0f} us a step; {:.0f} us a handover",
                            e.rates.gpu_memory / kGiga, 1e6 * e.rates.gpu_step,
                            1e6 * e.rates.handover));
  return out;
}

}  // namespace tensor_pager::loaders
