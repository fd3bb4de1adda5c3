// SPDX-License-Identifier: Apache-2.0
#include "views.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "pager/counted.hpp"
#include "units.hpp"

namespace tensor_pager::pager_stats {
namespace {

// A field's value as it is best read; bytes are told by their names.
std::string readable(const Field& field) {
  if (!field.number()) return field.value.get<std::string>();
  const double value = field.value.get<double>();
  const bool bytes = field.name.ends_with("bytes") || field.section == "bytes";
  if (bytes) return size(value);
  return field.value.is_number_integer() ? fmt::format("{:.0f}", value)
                                         : fmt::format("{:.4g}", value);
}

std::string change(const Field& before, const Field& after) {
  if (!before.number() || !after.number()) return before.value == after.value ? "" : "changed";
  const double a = before.value.get<double>();
  const double b = after.value.get<double>();
  if (a == b) return "";
  if (a == 0) return "new";
  return fmt::format("{:+.1f}%", 100 * (b / a - 1));
}

}  // namespace

std::string table(const std::vector<Field>& fields) {
  const auto n = [&](const char* section, const char* name) {
    return number(fields, section, name);
  };
  const auto of = [&](const char* section, const char* name, const char* noun) {
    return counted(static_cast<std::uint64_t>(n(section, name)), noun);
  };
  const auto t = [&](const char* section, const char* name) { return text(fields, section, name); };
  const double accesses = n("pages", "hits") + n("pages", "misses");
  const double prefill = n("time", "prefill_s");
  std::string out;
  const auto row = [&](const char* name, const std::string& value) {
    out += fmt::format("{:<10} {}\n", name, value);
  };
  row("model", fmt::format("{} ({} {}), {} of weights in {}", t("model", "name"),
                           t("model", "architecture"), t("model", "file_type"),
                           size(n("model", "weights_bytes")), of("model", "tensors", "tensor")));
  row("device", fmt::format("{} ({}), weights from a {}", t("device", "kind"), t("device", "name"),
                            t("device", "store")));
  row("arena", fmt::format("{}: {} of {}, {:.0f}% of the weights", size(n("arena", "bytes")),
                           of("arena", "frames", "frame"), size(n("arena", "page_bytes")),
                           percent(n("arena", "bytes"), n("model", "weights_bytes"))));
  row("memory", fmt::format("peak {} of {}", size(n("memory", "peak_bytes")),
                            size(n("memory", "budget_bytes"))));
  row("prefill",
      fmt::format("{:.3f} s, {:.1f} tokens/s; {:.3f} s not stalled, copies took {:.3f} s beside it",
                  prefill, n("rates", "prefill_tokens_per_s"), n("bound", "compute_s"),
                  n("bound", "link_s")));
  row("decode", fmt::format("{:.3f} s, {:.1f} tokens/s", n("time", "decode_s"),
                            n("rates", "decode_tokens_per_s")));
  row("pages", fmt::format("{:.0f} of {:.0f} resident; {:.0f} accesses: {:.1f}% hits, {:.1f}% "
                           "prefetched, {:.1f}% late; {:.0f} evictions, {:.0f} remaps",
                           n("pages", "resident"), n("pages", "total"), accesses,
                           percent(n("pages", "hits"), accesses),
                           percent(n("pages", "prefetched"), accesses),
                           percent(n("pages", "late"), accesses), n("pages", "evictions"),
                           n("pages", "remaps")));
  row("link",
      fmt::format("{} copied, {:.1f}% over the optimum; {:.2f} GB/s while busy, busy {:.3f} "
                  "s",
                  size(n("bytes", "h2d")),
                  std::max(0.0, percent(n("bytes", "h2d"), n("bytes", "optimal_h2d")) - 100),
                  n("rates", "link_gb_per_s"), n("time", "link_busy_s")));
  row("stalled",
      fmt::format("{:.3f} s of {:.3f} s", n("time", "stall_s"), prefill + n("time", "decode_s")));
  row("load", fmt::format("{:.3f} s to load, first step after {:.3f} s", n("time", "load_s"),
                          n("time", "first_step_s")));
  if (const std::string limit = t("bound", "limit"); !limit.empty()) row("limit", limit);
  if (const std::string doubt = t("bound", "doubt"); !doubt.empty()) row("doubtful", doubt);
  if (t("run", "outcome") == "interrupted")
    row("outcome", "interrupted: all is of what was done by then");
  return out;
}

std::string difference(const std::vector<Field>& before, const std::vector<Field>& after) {
  std::string out =
      fmt::format("{:<32} {:>20} {:>20} {:>10}\n", "field", "before", "after", "change");
  for (const Field& a : before) {
    const auto b = std::ranges::find_if(
        after, [&](const Field& f) { return f.section == a.section && f.name == a.name; });
    if (b == after.end()) continue;
    out += fmt::format("{:<32} {:>20} {:>20} {:>10}\n", a.section + "." + a.name,
                       readable(a).substr(0, 20), readable(*b).substr(0, 20), change(a, *b));
  }
  return out;
}

nlohmann::ordered_json to_json(const std::vector<Field>& fields) {
  nlohmann::ordered_json all;
  for (const Field& field : fields) all[field.section][field.name] = field.value;
  return all;
}

}  // namespace tensor_pager::pager_stats
