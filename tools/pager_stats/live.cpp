// SPDX-License-Identifier: Apache-2.0
#include "live.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include "pager/counted.hpp"
#include "units.hpp"

namespace tensor_pager::pager_stats {
namespace {

using Seconds = std::chrono::duration<double>;

double seconds(std::chrono::nanoseconds time) {
  return Seconds(time).count();
}

double count(Bytes bytes) {
  return static_cast<double>(bytes.count);
}

Bytes overlap(const ByteRange& a, const ByteRange& b) {
  const Bytes begin = std::max(a.offset, b.offset);
  const Bytes end = std::min(a.end(), b.end());
  return end > begin ? end - begin : Bytes{};
}

// One character for several pages.
char cell(const std::vector<PageState>& pages, std::size_t first, std::size_t last) {
  const auto in = [&](PageState state) {
    return std::count(pages.begin() + static_cast<std::ptrdiff_t>(first),
                      pages.begin() + static_cast<std::ptrdiff_t>(last), state);
  };
  const auto resident = static_cast<std::size_t>(in(PageState::resident));
  if (resident == last - first) return '#';
  if (in(PageState::loading) > 0) return '<';
  if (resident == 0) return '.';
  return 2 * resident >= last - first ? '+' : '-';
}

std::string resident_map(const std::vector<PageState>& pages, std::size_t width) {
  const std::size_t cells = std::min(width, pages.size());
  std::string map;
  for (std::size_t i = 0; i < cells; ++i) {
    map += cell(pages, i * pages.size() / cells, (i + 1) * pages.size() / cells);
  }
  return map;
}

std::string part_rows(std::vector<PartTraffic> parts, const LiveView& view) {
  sort_parts(parts, *view.parts);
  std::string out = fmt::format("{:<32} {:>12} {:>9} {:>12} {:>7}\n", "tensor", "size", "resident",
                                "copied", "times");
  for (std::size_t i = 0; i < std::min(parts.size(), view.most_parts); ++i) {
    const PartTraffic& part = parts[i];
    out += fmt::format("{:<32} {:>12} {:>8.0f}% {:>12} {:>7.1f}\n", printable(part.name),
                       size(count(part.size)), percent(count(part.resident), count(part.size)),
                       size(count(part.copied)),
                       part.size.count > 0 ? count(part.copied) / count(part.size) : 0);
  }
  if (parts.size() > view.most_parts) {
    out += fmt::format("... and {} more\n", parts.size() - view.most_parts);
  }
  return out;
}

// Of the plan's work, in whole passes and the steps of the last one.
double work_done(const PublishedState& state) {
  if (state.passes == 0 || state.steps == 0) return 0;
  const double last = (state.step + 1.0) / state.steps;
  return (static_cast<double>(state.passes - 1) + last) * static_cast<double>(state.work);
}

// "generation, now 33.1 tokens/s; pass 17, of 1 token each"
std::string phase_text(const PublishedState& before, const PublishedState& now, double time) {
  const std::string name = now.plan.empty() ? "plan" : printable(now.plan);
  if (now.work == 0) return fmt::format("{}; pass {}", name, now.passes);
  // What was done under another plan is not known any more.
  const double past = before.plans == now.plans ? work_done(before) : 0;
  const std::string units = printable(now.unit);  // "tokens"
  std::string unit = units;
  if (unit.ends_with('s')) unit.pop_back();
  return fmt::format(
      "{}, now {:.1f} {}/s; pass {}, of {} each", name, (work_done(now) - past) / time, units,
      now.passes, unit == units ? fmt::format("{} {}", now.work, units) : counted(now.work, unit));
}

std::string cut_lines(const std::string& text, std::size_t width) {
  std::string out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    out += text.substr(begin, std::min(end - begin, width)) + '\n';
    begin = end + 1;
  }
  return out;
}

}  // namespace

Sample::Sample(const PublishedPager& pager)
    : state(pager.read()), pages(pager.page_states()), loads(pager.page_loads()) {}

std::vector<PartTraffic> traffic_by_part(const PublishedPager& pager, const Sample& sample) {
  const PageLayout& layout = pager.layout();
  std::vector<PartTraffic> parts;
  for (const NamedRange& range : pager.names()) {
    PartTraffic part{.name = range.name, .size = range.bytes.size, .resident = {}, .copied = {}};
    const auto first = range.bytes.offset / layout.page;
    for (auto page = first; page < sample.pages.size(); ++page) {
      const Bytes bytes = overlap(range.bytes, layout.bytes_of({static_cast<std::uint32_t>(page)}));
      if (bytes == Bytes{}) break;
      if (sample.pages[page] == PageState::resident) part.resident += bytes;
      part.copied += bytes * sample.loads[page];
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

void sort_parts(std::vector<PartTraffic>& parts, PartOrder order) {
  const auto descending = [&](Bytes PartTraffic::*amount) {
    std::ranges::stable_sort(parts, std::greater{}, amount);
  };
  switch (order) {
    case PartOrder::image:
      return;
    case PartOrder::name:
      return std::ranges::stable_sort(parts, {}, &PartTraffic::name), void();
    case PartOrder::size:
      return descending(&PartTraffic::size);
    case PartOrder::resident:
      return descending(&PartTraffic::resident);
    case PartOrder::copied:
      return descending(&PartTraffic::copied);
  }
}

std::string live_table(const PublishedPager& pager, const Sample& before, const Sample& now,
                       const LiveView& view) {
  const Statistics& s = now.state.statistics;
  const Statistics& b = before.state.statistics;
  const double time = std::max(seconds(now.state.age - before.state.age), 1e-9);
  const auto accesses = static_cast<double>(s.core.accesses);
  const auto share = [&](std::uint64_t n) { return percent(static_cast<double>(n), accesses); };
  std::string out;
  const auto row = [&](const char* name, const std::string& value) {
    out += fmt::format("{:<9} {}\n", name, value);
  };
  row("model",
      fmt::format("{}, on {} ({}), for {:.1f} s", printable(pager.title()), pager.device_kind(),
                  printable(pager.device_name()), seconds(now.state.age)));
  row("arena", fmt::format("{}: {} of {}; {} of {} resident", size(count(s.arena)),
                           counted(s.frames, "frame"), size(count(s.page)), s.resident_pages,
                           counted(s.pages, "page")));
  row("resident", resident_map(now.pages, view.width - std::min<std::size_t>(view.width, 11)));
  row("pages",
      fmt::format("{} accesses: {:.1f}% hits, {:.1f}% prefetched, {:.1f}% late; {} evictions",
                  s.core.accesses, share(s.core.hits), share(s.core.prefetched), share(s.core.late),
                  s.core.evictions));
  row("link", fmt::format("{} copied (optimal {}); now {:.2f} GB/s, busy {:.0f}%",
                          size(count(s.link.copied)), size(count(s.core.optimal)),
                          count(s.link.copied - b.link.copied) / time / 1e9,
                          percent(seconds(s.link.busy - b.link.busy), time)));
  row("stalled", fmt::format("{:.3f} s; now {:.0f}%", seconds(s.stalled),
                             percent(seconds(s.stalled - b.stalled), time)));
  row("memory",
      fmt::format("{}, peak {}", size(count(s.memory.current)), size(count(s.memory.peak))));
  if (now.state.steps > 0) {
    row("phase", phase_text(before.state, now.state, time));
    row("step", fmt::format("{} of {}", now.state.step + 1, now.state.steps));
  }
  if (view.parts) out += part_rows(traffic_by_part(pager, now), view);
  return cut_lines(out, view.width);
}

std::vector<Field> live_fields(const PublishedPager& pager, const PublishedState& state) {
  const Statistics& s = state.statistics;
  Bytes named;
  for (const NamedRange& range : pager.names()) named += range.bytes.size;
  const double busy = seconds(s.link.busy);
  return {{"model", "name", pager.title()},
          {"model", "weights_bytes", named.count},
          {"model", "tensors", pager.names().size()},
          {"device", "kind", pager.device_kind()},
          {"device", "name", pager.device_name()},
          {"arena", "bytes", s.arena.count},
          {"arena", "page_bytes", s.page.count},
          {"arena", "frames", s.frames},
          {"arena", "peak_frames", s.peak_frames},
          {"memory", "bytes", s.memory.current.count},
          {"memory", "peak_bytes", s.memory.peak.count},
          {"pages", "total", s.pages},
          {"pages", "resident", s.resident_pages},
          {"pages", "hits", s.core.hits},
          {"pages", "misses", s.core.prefetched + s.core.late},
          {"pages", "prefetched", s.core.prefetched},
          {"pages", "late", s.core.late},
          {"pages", "evictions", s.core.evictions},
          {"pages", "remaps", s.core.remaps},
          {"bytes", "h2d", s.link.copied.count},
          {"bytes", "optimal_h2d", s.core.optimal.count},
          {"time", "running_s", seconds(state.age)},
          {"time", "stall_s", seconds(s.stalled)},
          {"time", "link_busy_s", busy},
          {"rates", "link_gb_per_s", busy > 0 ? count(s.link.copied) / busy / 1e9 : 0},
          {"plan", "name", state.plan},
          {"plan", "work", state.work},
          {"plan", "unit", state.unit},
          {"plan", "passes", state.passes},
          {"plan", "step", state.step},
          {"plan", "steps", state.steps}};
}

nlohmann::ordered_json parts_json(const std::vector<PartTraffic>& parts) {
  auto all = nlohmann::ordered_json::array();
  for (const PartTraffic& part : parts) {
    all.push_back({{"name", part.name},
                   {"bytes", part.size.count},
                   {"resident_bytes", part.resident.count},
                   {"copied_bytes", part.copied.count}});
  }
  return all;
}

}  // namespace tensor_pager::pager_stats
