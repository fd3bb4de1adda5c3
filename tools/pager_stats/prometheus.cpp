// SPDX-License-Identifier: Apache-2.0
#include "prometheus.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace tensor_pager::pager_stats {
namespace {

enum class Kind { counter, gauge, gauge_of_giga };

/// A field of the statistics as others know it. `name` goes without "tensor_pager_".
struct Metric {
  std::string_view section;
  std::string_view field;
  std::string_view name;
  Kind kind;
  std::string_view help;
};

constexpr auto kCounter = Kind::counter;
constexpr auto kGauge = Kind::gauge;
constexpr auto kGiga = Kind::gauge_of_giga;  // 10^9 units in the file, units here

constexpr std::array kMetrics = std::to_array<Metric>({
    {"run", "prompt_tokens", "prompt_tokens_total", kCounter,
     "Tokens whose prefill was completed."},
    {"run", "generated_tokens", "generated_tokens_total", kCounter,
     "Tokens computed after the prompt."},
    {"run", "sequences", "run_sequences", kGauge, "Texts generated together at most."},
    {"model", "bytes", "model_bytes", kGauge, "All files of the model together."},
    {"model", "weights_bytes", "model_weights_bytes", kGauge, "Tensors of the model."},
    {"model", "tensors", "model_tensors", kGauge, "How many tensors the model has."},
    {"device", "link_gb_per_s", "prefill_link_bytes_per_second", kGiga,
     "Rate of copies during prefill, while one was under way."},
    {"arena", "bytes", "arena_bytes", kGauge, "Memory for weights."},
    {"arena", "page_bytes", "page_bytes", kGauge, "Bytes of a page."},
    {"arena", "frames", "arena_frames", kGauge, "Pages that the arena holds."},
    {"arena", "peak_frames", "arena_peak_frames", kGauge, "The most pages that the arena held."},
    {"memory", "budget_bytes", "memory_budget_bytes", kGauge,
     "Device memory that the run may take."},
    {"memory", "bytes", "memory_bytes", kGauge, "Device memory held now."},
    {"memory", "peak_bytes", "memory_peak_bytes", kGauge,
     "The most device memory held at any time."},
    {"pages", "total", "pages", kGauge, "Pages of the files of the model."},
    {"pages", "resident", "resident_pages", kGauge, "Pages that are in a frame."},
    {"pages", "hits", "pages_hits_total", kCounter,
     "Accesses that found their page resident, not brought in for them."},
    {"pages", "misses", "pages_misses_total", kCounter,
     "Accesses for which a page was brought in."},
    {"pages", "prefetched", "pages_prefetched_total", kCounter,
     "Accesses whose page had been brought in for them in time."},
    {"pages", "late", "pages_late_total", kCounter, "Accesses whose page was still on its way."},
    {"pages", "evictions", "pages_evictions_total", kCounter,
     "Pages whose frame was given to another, or given up."},
    {"pages", "remaps", "pages_remaps_total", kCounter, "Pages that were mapped to a frame."},
    {"bytes", "h2d", "h2d_bytes_total", kCounter, "Bytes copied to the device."},
    {"bytes", "optimal_h2d", "optimal_h2d_bytes_total", kCounter,
     "Bytes that Belady's rule would have copied."},
    {"bytes", "disk", "disk_read_bytes_total", kCounter,
     "Bytes of the model that were read from disks while tokens were computed."},
    {"time", "load_s", "load_seconds", kGauge,
     "From the start of the process until the model could run."},
    {"time", "first_step_s", "first_step_seconds", kGauge,
     "From the start of the process until the first step of prefill."},
    {"time", "running_s", "running_seconds", kGauge, "Since the pager was made."},
    {"time", "prefill_s", "prefill_seconds_total", kCounter, "Time of prefill."},
    {"time", "decode_s", "decode_seconds_total", kCounter, "Time of generation."},
    {"time", "stall_s", "stall_seconds_total", kCounter,
     "Time for which streams had nothing to do but wait for pages."},
    {"time", "link_busy_s", "link_busy_seconds_total", kCounter,
     "Time for which a copy was under way."},
    {"time", "processor_s", "processor_seconds_total", kCounter,
     "Time that threads ran, added up."},
    {"time", "processor_wait_s", "processor_wait_seconds_total", kCounter,
     "Time that threads waited for a processor, added up."},
    {"rates", "prefill_tokens_per_s", "prefill_tokens_per_second", kGauge,
     "Tokens of the prompt per second of prefill."},
    {"rates", "decode_tokens_per_s", "decode_tokens_per_second", kGauge,
     "Tokens generated per second of generation."},
    {"rates", "link_gb_per_s", "link_bytes_per_second", kGiga,
     "Rate of copies over the whole run, while one was under way."},
    {"placement", "on_cpu_bytes", "placement_on_cpu_bytes", kGauge,
     "Weights that processors compute with in generation."},
    {"placement", "resident_bytes", "placement_resident_bytes", kGauge,
     "Pages predicted to stay in the arena from token to token."},
    {"placement", "streamed_bytes", "placement_streamed_bytes", kGauge,
     "Pages predicted to be copied for each token."},
    {"placement", "token_s", "placement_token_seconds", kGauge, "Time predicted for a token."},
    {"placement", "bound_s", "placement_bound_seconds", kGauge,
     "Time of a token that no placement can beat."},
    {"placement", "threads", "placement_threads", kGauge, "Threads of the processors' share."},
    {"bound", "link_s", "bound_link_seconds", kGauge,
     "Time that the copies of prefill take at their own rate."},
    {"bound", "compute_s", "bound_compute_seconds", kGauge,
     "Time of prefill that was not stalled."},
    {"bound", "fraction", "bound_overlap_ratio", kGauge,
     "The larger of both as a share of prefill; 1 is perfect overlap."},
    {"plan", "step", "plan_step", kGauge, "Step of the plan that was acquired last, from 0 on."},
    {"plan", "steps", "plan_steps", kGauge, "Steps of the plan."},
    {"plan", "passes", "plan_passes_total", kCounter,
     "Passes of the present plan that were begun."},
    {"plan", "work", "plan_work", kGauge, "What a pass of the plan works through: tokens, say."},
});

std::string escaped(const std::string& label) {
  std::string result;
  for (const char c : label) {
    if (c == '\\' || c == '"') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result;
}

// With several sources, their place tells them apart.
std::string labels(const std::vector<Field>& fields, std::size_t place, std::size_t sources) {
  return fmt::format("{{model=\"{}\",device=\"{}\"{}}}", escaped(text(fields, "model", "name")),
                     escaped(text(fields, "device", "name")),
                     sources > 1 ? fmt::format(",pager=\"{}\"", place) : "");
}

std::string value_text(const Metric& metric, const Field& field) {
  if (metric.kind != Kind::gauge_of_giga) return field.value.dump();
  return nlohmann::ordered_json(field.value.get<double>() * 1e9).dump();
}

}  // namespace

std::string prometheus(std::span<const std::vector<Field>> sources) {
  std::string out;
  for (const Metric& metric : kMetrics) {
    std::string samples;
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const Field* const field =
          find(sources[i], std::string(metric.section), std::string(metric.field));
      if (field == nullptr || !field->number()) continue;
      samples += fmt::format("tensor_pager_{}{} {}\n", metric.name,
                             labels(sources[i], i, sources.size()), value_text(metric, *field));
    }
    if (samples.empty()) continue;
    out += fmt::format("# HELP tensor_pager_{0} {1}\n# TYPE tensor_pager_{0} {2}\n{3}", metric.name,
                       metric.help, metric.kind == Kind::counter ? "counter" : "gauge", samples);
  }
  return out;
}

}  // namespace tensor_pager::pager_stats
