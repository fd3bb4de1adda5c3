// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "pager/counted.hpp"
#include "topology.hpp"

namespace tensor_pager::qwen_prefill {
namespace {

constexpr double kGiga = 1e9;

double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

double count(Bytes bytes) {
  return static_cast<double>(bytes.count);
}

Bytes file_bytes(const loaders::GgufModel& model) {
  Bytes sum;
  for (const loaders::ModelFile& file : model.files()) sum += file.size;
  return sum;
}

std::string architecture(const qwen::Model& model) {
  return std::string(loaders::to_string(model.config.architecture));
}

// What is not as in most models: how positions are stretched, and tensors that no pass needs.
std::string peculiarities(const qwen::Model& model, const qwen::MemoryPlan& plan) {
  std::string text;
  const loaders::RopeScaling& rope = model.config.rope_scaling;
  if (rope.kind != loaders::RopeScalingKind::none) {
    text += fmt::format("rope     {} scaling by {} of {} positions: contexts of up to {}\n",
                        rope.kind == loaders::RopeScalingKind::yarn ? "YaRN" : "linear",
                        rope.factor, rope.original_context_length, model.config.context_length);
  }
  if (!plan.graph.unused.empty()) {
    Bytes bytes;
    for (const std::uint32_t i : plan.graph.unused) bytes += model.gguf.tensors()[i].bytes.size;
    text += fmt::format(
        "unused   {} in {}: predictions of further tokens, or scales of rounded inputs\n",
        to_string(bytes), counted(plan.graph.unused.size(), "tensor"));
  }
  return text;
}

const char* limit_text(Bound::Limit limit) {
  switch (limit) {
    case Bound::Limit::link:
      return "copying over the link";
    case Bound::Limit::disk:
      return "reading the disk";
    case Bound::Limit::compute:
      return "computing";
    case Bound::Limit::handover:
      return "handing work over";
    case Bound::Limit::none:
      break;
  }
  return "nothing";
}

// What limited the prefill, and what that means for another budget.
std::string limit_line(const RunReport& report) {
  const Bound found = bound(report.prefill);
  if (found.limit == Bound::Limit::none) return {};
  std::string text = fmt::format(
      "limit    {}: of {:.2f} s, copying takes {:.2f} s and computing {:.2f} s; {:.0f}% of the "
      "time "
      "went by waiting for weights, which more memory can save at most\n",
      limit_text(found.limit), report.prefill.time.count(), found.link_s, found.compute_s,
      100 * found.waited);
  if (!found.doubt.empty()) text += fmt::format("doubtful {}; run it again alone\n", found.doubt);
  return text;
}

}  // namespace

double PhaseReport::tokens_per_second() const {
  return ratio(static_cast<double>(tokens), time.count());
}

double PhaseReport::link_rate() const {
  return ratio(count(copied), link_busy.count());
}

void PhaseReport::add(const PhaseReport& other) {
  tokens += other.tokens;
  time += other.time;
  stalled += other.stalled;
  copied += other.copied;
  optimal += other.optimal;
  link_busy += other.link_busy;
  usage = usage + other.usage;
}

Bound bound(const PhaseReport& prefill) {
  Bound bound;
  // Of a file in place nothing is copied; then it is the time for which pages were brought in.
  bound.link_s = prefill.copied > Bytes{0} ? ratio(count(prefill.optimal), prefill.link_rate())
                                           : prefill.link_busy.count();
  bound.compute_s = std::max((prefill.time - prefill.stalled).count(), 0.0);
  bound.fraction = ratio(std::max(bound.link_s, bound.compute_s), prefill.time.count());
  bound.waited = ratio(prefill.stalled.count(), prefill.time.count());
  if (prefill.time.count() > 0) {
    const Bytes brought = std::max(prefill.copied, prefill.optimal);
    const bool from_disk = 2 * prefill.usage.disk.count > brought.count;
    bound.limit = bound.fraction < 0.5              ? Bound::Limit::handover
                  : bound.link_s <= bound.compute_s ? Bound::Limit::compute
                  : from_disk                       ? Bound::Limit::disk
                                                    : Bound::Limit::link;
  }
  if (prefill.usage.was_starved()) {
    bound.doubt = fmt::format(
        "threads waited {:.2f} s for processors, and had them for {:.2f} s: other programs ran, or "
        "there are fewer cores than threads",
        prefill.usage.waited, prefill.usage.processor);
  }
  return bound;
}

const char* to_string(Bound::Limit limit) {
  switch (limit) {
    case Bound::Limit::link:
      return "link";
    case Bound::Limit::disk:
      return "disk";
    case Bound::Limit::compute:
      return "compute";
    case Bound::Limit::handover:
      return "handover";
    case Bound::Limit::none:
      break;
  }
  return "none";
}

std::string banner(const qwen::Model& model, const qwen::MemoryPlan& plan,
                   const RunReport& report) {
  const double share = ratio(count(plan.arena), count(model.gguf.weights_bytes()));
  const std::string tokens =
      model.tokenizer ? ""
                      : fmt::format("text     none, token ids alone: {}\n", model.no_tokenizer);
  const std::string sequences =
      plan.sequences == 1 ? "" : fmt::format("{} sequences of ", plan.sequences);
  return fmt::format(
      "model    {} ({} {}, {}), {} of weights in {}\n"
      "{}"
      "device   {} ({}), {}; weights from a {}\n"
      "arena    {} ({:.0f}% of the weights): {} of {}\n"
      "memory   {} key-value cache for {}{}, ubatches of {}, budget {}\n"
      "{}",
      qwen::display_name(model), architecture(model), qwen::file_type(model.gguf),
      counted(model.config.block_count(), "layer"), to_string(model.gguf.weights_bytes()),
      counted(model.gguf.tensors().size(), "tensor"), tokens, report.device.kind,
      report.device.name, describe_processor(), report.store, to_string(plan.arena), 100 * share,
      counted(plan.arena / plan.layout.page, "frame"), to_string(plan.layout.page),
      to_string(plan.kv_cache), sequences, counted(plan.context, "position"), plan.prefill.ubatch,
      to_string(plan.budget), peculiarities(model, plan));
}

std::string summary(const qwen::MemoryPlan& plan, const RunReport& report) {
  const Statistics& s = report.statistics;
  std::string text =
      report.interrupted.empty() ? "" : fmt::format("stopped  {}\n", report.interrupted);
  text += fmt::format("prefill  {} in {:.2f} s: {:.1f} tokens/s\n",
                      counted(report.prefill.tokens, "token"), report.prefill.time.count(),
                      report.prefill.tokens_per_second());
  if (report.decode.tokens > 0) {
    text += fmt::format("decode   {} in {:.2f} s: {:.1f} tokens/s\n",
                        counted(report.decode.tokens, "token"), report.decode.time.count(),
                        report.decode.tokens_per_second());
  }
  if (report.places) {
    text += fmt::format("placed   {} of weights on {} of the CPU; {:.1f} tokens/s predicted\n",
                        to_string(report.places->predicted.on_cpu),
                        counted(report.places->places.threads.threads, "thread"),
                        ratio(plan.sequences, report.places->predicted.seconds));
  }
  text += fmt::format(
      "paging   {} accesses: {} hits, {} prefetched, {} late; {} evictions, {} remaps; {} of {} "
      "pages resident\n",
      s.core.accesses, s.core.hits, s.core.prefetched, s.core.late, s.core.evictions, s.core.remaps,
      s.resident_pages, s.pages);
  text += fmt::format(
      "link     {} copied (optimal {}) at {:.2f} GB/s, busy {:.2f} s, stalled {:.2f} s\n",
      to_string(s.link.copied), to_string(s.core.optimal),
      ratio(count(s.link.copied), Seconds(s.link.busy).count()) / kGiga,
      Seconds(s.link.busy).count(), Seconds(s.stalled).count());
  text += fmt::format("memory   peak {} of {}\n", to_string(s.memory.peak), to_string(plan.budget));
  return text + limit_line(report);
}

nlohmann::ordered_json statistics_json(const qwen::Model& model, const qwen::MemoryPlan& plan,
                                       const RunReport& report) {
  const Statistics& s = report.statistics;
  const Bound limit = bound(report.prefill);
  const double busy = Seconds(s.link.busy).count();
  const double link_rate = ratio(count(s.link.copied), busy) / kGiga;
  nlohmann::ordered_json json;
  json["run"] = {{"outcome", report.interrupted.empty() ? "complete" : "interrupted"},
                 {"prompt_tokens", report.prefill.tokens},
                 {"generated_tokens", report.decode.tokens},
                 {"sequences", plan.sequences}};
  json["model"] = {{"name", qwen::display_name(model)},
                   {"architecture", architecture(model)},
                   {"file_type", qwen::file_type(model.gguf)},
                   {"bytes", file_bytes(model.gguf).count},
                   {"weights_bytes", model.gguf.weights_bytes().count},
                   {"tensors", model.gguf.tensors().size()}};
  json["device"] = {{"kind", report.device.kind},
                    {"name", report.device.name},
                    {"link_gb_per_s", report.prefill.link_rate() / kGiga},
                    {"store", report.store}};
  json["arena"] = {{"bytes", s.arena.count},
                   {"page_bytes", s.page.count},
                   {"frames", s.frames},
                   {"peak_frames", s.peak_frames}};
  json["memory"] = {{"budget_bytes", plan.budget.count}, {"peak_bytes", s.memory.peak.count}};
  json["pages"] = {{"total", s.pages},
                   {"resident", s.resident_pages},
                   {"hits", s.core.hits},
                   {"misses", s.core.accesses - s.core.hits},
                   {"prefetched", s.core.prefetched},
                   {"late", s.core.late},
                   {"evictions", s.core.evictions},
                   {"remaps", s.core.remaps}};
  json["bytes"] = {{"h2d", s.link.copied.count},
                   {"optimal_h2d", s.core.optimal.count},
                   {"disk", (report.prefill.usage.disk + report.decode.usage.disk).count}};
  json["time"] = {{"load_s", report.load.count()},
                  {"first_step_s", report.first_step.value_or(report.load).count()},
                  {"prefill_s", report.prefill.time.count()},
                  {"decode_s", report.decode.time.count()},
                  {"stall_s", Seconds(s.stalled).count()},
                  {"link_busy_s", busy},
                  {"processor_s", report.prefill.usage.processor + report.decode.usage.processor},
                  {"processor_wait_s", report.prefill.usage.waited + report.decode.usage.waited}};
  json["rates"] = {{"prefill_tokens_per_s", report.prefill.tokens_per_second()},
                   {"decode_tokens_per_s", report.decode.tokens_per_second()},
                   {"link_gb_per_s", link_rate}};
  const loaders::PlacementPrediction predicted =
      report.places ? report.places->predicted : loaders::PlacementPrediction{};
  json["placement"] = {
      {"on_cpu_bytes", predicted.on_cpu.count},
      {"resident_bytes", predicted.resident.count},
      {"streamed_bytes", predicted.streamed.count},
      {"token_s", predicted.seconds},
      {"bound_s", predicted.bound},
      {"threads", report.places ? report.places->places.threads.threads : 0U},
      {"explanation",
       report.places ? fmt::format("{}", fmt::join(report.places->lines(), "\n")) : ""}};
  json["bound"] = {{"link_s", limit.link_s},
                   {"compute_s", limit.compute_s},
                   {"fraction", limit.fraction},
                   {"limit", to_string(limit.limit)},
                   {"doubt", limit.doubt}};
  return json;
}

}  // namespace tensor_pager::qwen_prefill
