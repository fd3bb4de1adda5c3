// SPDX-License-Identifier: Apache-2.0
#include "report/report_data.hpp"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <string>

#include "core/policy.hpp"
#include "report/answer.hpp"
#include "report/stays.hpp"
#include "report/timeline.hpp"
#include "report/traffic.hpp"
#include "report/what_if.hpp"

namespace tensor_pager::pager_stats {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxMarks = 60'000;
constexpr std::size_t kMaxStays = 120'000;
constexpr std::uint32_t kWhatIfPoints = 12;
constexpr double kGiga = 1e9;
/// Before the first byte of a copy that finds the link idle: as pager_sim assumes.
constexpr double kCopyLatency = 10e-6;

std::int64_t nanoseconds(double seconds) {
  return std::llround(seconds * 1e9);
}

/// Numbers that grow, as differences.
class Differences {
 public:
  std::int64_t operator()(double seconds) {
    const std::int64_t now = nanoseconds(seconds);
    return now - std::exchange(last_, now);
  }

 private:
  std::int64_t last_ = 0;
};

template <class Span>
Json times(const std::vector<Span>& spans, const std::vector<Mark>& marks) {
  Json json = {{"b", Json::array()}, {"d", Json::array()}};
  Differences begin;
  for (const Mark& mark : marks) {
    json["b"].push_back(begin(mark.begin));
    json["d"].push_back(nanoseconds(mark.end - mark.begin));
  }
  if (marks.size() == spans.size()) return json;
  for (const Mark& mark : marks) json["c"].push_back(mark.count);
  return json;
}

Json copies(const Recording& recording) {
  const std::vector<Mark> all = marks(recording.copies, kMaxMarks);
  Json json = times(recording.copies, all);
  json["f"] = json["n"] = Json::array();
  for (const Mark& mark : all) {
    std::uint64_t pages = 0;
    for (std::uint32_t k = 0; k < mark.count; ++k) {
      pages += recording.copies[mark.first + k].pages.count;
    }
    json["f"].push_back(recording.copies[mark.first].pages.first.value);
    json["n"].push_back(pages);
  }
  return json;
}

/// Steps have the number of their plan and in it; others have -1 and the number of their name.
class Names {
 public:
  std::size_t number(const std::string& name) {
    const auto [found, added] = index_.emplace(name, names_.size());
    if (added) names_.push_back(name);
    return found->second;
  }
  const std::vector<std::string>& all() const { return names_; }

 private:
  std::map<std::string, std::size_t> index_;
  std::vector<std::string> names_;
};

Json spans(const std::vector<RecordedSpan>& recorded, Names& names) {
  const std::vector<Mark> all = marks(recorded, kMaxMarks);
  Json json = times(recorded, all);
  json["p"] = json["i"] = json["s"] = Json::array();
  for (const Mark& mark : all) {
    const RecordedSpan& span = recorded[mark.first];
    json["p"].push_back(span.position ? static_cast<int>(span.position->plan) : -1);
    json["i"].push_back(span.position ? span.position->step.value : names.number(span.name));
    json["s"].push_back(span.stream);
  }
  return json;
}

/// For each step of a plan its name, and its pages as [first, count, first, count, ...].
Json plan(const Recording& recording, const AccessPlan& access, Names& names) {
  const PagePlan pages(recording.layout, access);
  Json json = {{"names", Json::array()}, {"pages", Json::array()}};
  for (std::uint32_t step = 0; step < pages.steps(); ++step) {
    const std::string& name = access.steps[step].name;
    json["names"].push_back(names.number(name.empty() ? fmt::format("step {}", step) : name));
    Json runs = Json::array();
    std::uint32_t next = 0;
    for (const PageIndex page : pages.pages(step)) {
      if (!runs.empty() && page.value == next) {
        runs.back() = runs.back().get<std::uint32_t>() + 1;
      } else {
        runs.push_back(page.value);
        runs.push_back(1);
      }
      next = page.value + 1;
    }
    json["pages"].push_back(std::move(runs));
  }
  return json;
}

Json residency(const Recording& recording) {
  std::vector<Stay> all = stays(recording);
  const double shortest = keep_longest(all, kMaxStays);
  Json json = {{"b", Json::array()},
               {"d", Json::array()},
               {"f", Json::array()},
               {"n", Json::array()},
               {"shortest", nanoseconds(shortest)}};
  Differences begin;
  for (const Stay& stay : all) {
    json["b"].push_back(begin(stay.from));
    json["d"].push_back(nanoseconds(stay.to - stay.from));
    json["f"].push_back(stay.pages.first.value);
    json["n"].push_back(stay.pages.count);
  }
  return json;
}

void add_traffic(const Recording& recording, Json& json) {
  const Traffic all = traffic(recording);
  json["parts"] = json["groups"] = Json::array();
  for (const PartCopies& part : all.parts) {
    json["parts"].push_back({part.name, part.bytes.offset.count, part.bytes.size.count, part.group,
                             part.copied.first_plan.count, part.copied.later.count});
  }
  for (const GroupCopies& group : all.groups) {
    json["groups"].push_back({group.name, group.size.count, group.extent.offset.count,
                              group.extent.size.count, group.copied.first_plan.count,
                              group.copied.later.count});
  }
}

std::string phase_name(const Recording& recording, std::size_t plan) {
  if (recording.plans.size() > 2) return fmt::format("plan {}", plan);
  return plan == 0 ? "prefill" : "generation";
}

/// From the first event of a plan's steps to the last.
Json phases(const Recording& recording) {
  Json json = Json::array();
  for (std::uint32_t plan = 0; plan < recording.plans.size(); ++plan) {
    double begin = recording.end();
    double end = 0;
    for (const auto* all : {&recording.steps, &recording.stalls}) {
      for (const RecordedSpan& span : *all) {
        if (!span.position || span.position->plan != plan) continue;
        begin = std::min(begin, span.begin);
        end = std::max(end, span.end);
      }
    }
    if (end <= begin) continue;
    json.push_back({{"name", phase_name(recording, plan)},
                    {"begin", nanoseconds(begin)},
                    {"end", nanoseconds(end)}});
  }
  return json;
}

/// The rate of the copies since a plan was set, in bytes per second; 0 if there were none.
double link_rate_since(const Recording& recording, double set) {
  double bytes = 0;
  double busy = 0;
  for (const RecordedCopy& copy : recording.copies) {
    if (copy.begin < set) continue;
    bytes += static_cast<double>(copy.bytes.count);
    busy += copy.end - copy.begin;
  }
  return busy > 0 ? bytes / busy : 0;
}

/// Statistics have the rate of prefill's copies. Those of generation may well run at another: the
/// pages of the files are in the host's memory by then.
prediction::MachineModel machine(const std::vector<Field>& stats, const Recording& recording,
                                 std::uint32_t plan) {
  double link = plan == 0 ? number(stats, "device", "link_gb_per_s") * kGiga
                          : link_rate_since(recording, recording.plans[plan].set);
  if (link <= 0) link = number(stats, "rates", "link_gb_per_s") * kGiga;
  const double remaps = number(stats, "pages", "remaps");
  return {.link = link,
          .copy_latency = kCopyLatency,
          .map = remaps > 0 ? recording.mapping / remaps : 0};
}

Json prediction(const prediction::Prediction& p, double tokens) {
  return {{"tokens_per_s", p.seconds > 0 ? tokens / p.seconds : 0},
          {"seconds", p.seconds},
          {"stalled", p.stalled},
          {"copied", p.copied.count}};
}

/// What the run itself reached, to hold the prediction against: a cold pass of prefill, and the
/// passes of generation together.
double measured_rate(const std::vector<Field>& stats, const MeasuredPlan& measured, bool prefill,
                     double tokens) {
  if (!prefill) return number(stats, "rates", "decode_tokens_per_s");
  if (measured.passes == 1) return number(stats, "rates", "prefill_tokens_per_s");
  return measured.first_pass > 0 ? tokens / measured.first_pass : 0;
}

Json curve(const std::vector<Field>& stats, const Recording& recording, std::uint32_t plan) {
  const bool prefill = plan == 0;
  const prediction::MachineModel model = machine(stats, recording, plan);
  const WhatIf found = what_if(recording, plan, model, kWhatIfPoints);
  const double all_tokens =
      prefill ? number(stats, "rates", "prefill_tokens_per_s") * number(stats, "time", "prefill_s")
              : number(stats, "rates", "decode_tokens_per_s") * number(stats, "time", "decode_s");
  const MeasuredPlan& measured = found.measured;
  const double tokens = all_tokens / std::max(measured.passes, 1U);
  Json json = {{"name", phase_name(recording, plan)},
               {"cold", prefill},
               {"why_not", found.why_not},
               {"link_gb_per_s", model.link / kGiga},
               {"map_s", model.map},
               {"passes", measured.passes},
               {"steps", recording.plans[plan].plan.steps.size()},
               {"steps_measured", measured.steps_measured},
               {"tokens", std::round(tokens)},
               {"own", found.own},
               {"measured", measured_rate(stats, measured, prefill, tokens)},
               {"points", Json::array()}};
  for (const WhatIf::Point& point : found.points) {
    json["points"].push_back({{"bytes", (recording.layout.page * point.frames).count},
                              {"cold", prediction(point.cold, tokens)},
                              {"warm", prediction(point.warm, tokens)}});
  }
  return json;
}

Json what_ifs(const std::vector<Field>& stats, const Recording& recording) {
  Json json = Json::array();
  if (recording.plans.empty()) return json;
  json.push_back(curve(stats, recording, 0));
  const bool generated = number(stats, "time", "decode_s") > 0;
  if (generated && recording.plans.size() == 2) json.push_back(curve(stats, recording, 1));
  return json;
}

Json statistics(const std::vector<Field>& stats) {
  Json json;
  for (const Field& field : stats) json[field.section][field.name] = field.value;
  return json;
}

}  // namespace

void require_same_run(const std::vector<Field>& stats, const Recording& recording) {
  Bytes copied;
  for (const RecordedCopy& copy : recording.copies) copied += copy.bytes;
  const auto require = [](const char* what, double of_stats, std::uint64_t of_trace) {
    if (of_stats == static_cast<double>(of_trace)) return;
    throw StatsError(
        fmt::format("the statistics and the trace are not of the same run: {} {:.0f} in one and {} "
                    "in the other; give the files that one qwen_prefill --stats --trace wrote",
                    what, of_stats, of_trace));
  };
  require("the bytes of a page are", number(stats, "arena", "page_bytes"),
          recording.layout.page.count);
  require("the pages of the model are", number(stats, "pages", "total"),
          recording.layout.page_count());
  require("the bytes copied are", number(stats, "bytes", "h2d"), copied.count);
}

nlohmann::ordered_json report_data(const std::vector<Field>& stats, const Recording& recording) {
  Names names;
  Json json = {{"stats", statistics(stats)},
               {"image",
                {{"bytes", recording.layout.image.count},
                 {"page", recording.layout.page.count},
                 {"pages", recording.layout.page_count()}}}};
  json["phases"] = phases(recording);
  json["plans"] = Json::array();
  for (const RecordedPlan& set : recording.plans) {
    json["plans"].push_back(plan(recording, set.plan, names));
  }
  json["copies"] = copies(recording);
  json["steps"] = spans(recording.steps, names);
  json["stalls"] = spans(recording.stalls, names);
  json["names"] = names.all();
  json["frames"] = Json::array();
  for (const auto& [at, count] : recording.frames) {
    json["frames"].push_back({nanoseconds(at), count});
  }
  json["stays"] = residency(recording);
  json["end"] = nanoseconds(recording.end());
  add_traffic(recording, json);
  json["what_if"] = what_ifs(stats, recording);
  std::string answer = budget_answer(json["what_if"], number(stats, "model", "weights_bytes"));
  // Predicted are steps as long as those of this run, whatever is copied beside them.
  if (text(stats, "device", "kind") == "host" && number(stats, "bytes", "h2d") > 0) {
    answer +=
        " On the host device copies take processors from the steps: a larger budget helps more "
        "than that, and a smaller one costs more.";
  }
  if (const std::string doubt = text(stats, "bound", "doubt"); !doubt.empty()) {
    answer += fmt::format(" The times of this run are doubtful, though: {}.", doubt);
  }
  json["answer"] = std::move(answer);
  return json;
}

}  // namespace tensor_pager::pager_stats
