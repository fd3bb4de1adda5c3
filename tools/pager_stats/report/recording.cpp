// SPDX-License-Identifier: Apache-2.0
#include "report/recording.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "pager/system_error.hpp"

namespace tensor_pager::pager_stats {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kVersion = 1;
/// Far beyond any real image, and little enough for a table by page.
constexpr std::uint64_t kMaxPages = 1 << 24;
constexpr std::uint64_t kMax32 = std::numeric_limits<std::uint32_t>::max();
constexpr double kMicro = 1e-6;

/// What is wrong in the file; its name is added above.
[[noreturn]] void wrong(const std::string& what) {
  throw TraceError(what);
}

std::uint64_t natural(const Json& value, std::uint64_t max, const char* what) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > max) {
    wrong(fmt::format("{} is not a whole number of at most {}", what, max));
  }
  return value.get<std::uint64_t>();
}

std::uint32_t natural32(const Json& value, const char* what) {
  return static_cast<std::uint32_t>(natural(value, kMax32, what));
}

double seconds(const Json& value) {
  if (!value.is_number()) wrong("a time is not a number");
  return value.get<double>() * kMicro;
}

/// A JSON file's parts, step by step into a recording. Members that are missing are errors of the
/// JSON library, which name them.
class Reader {
 public:
  Recording read(const Json& file) {
    const Json& section = file.at("tensor_pager");
    natural(section.at("version"), kVersion, "the version");
    read_image(section.at("image"));
    read_policy(section.at("policy"));
    for (const Json& plan : section.at("plans")) read_plan(plan);
    for (const Json& change : section.at("frames")) {
      out_.frames.emplace_back(seconds(change.at(0)), natural32(change.at(1), "a count of frames"));
    }
    for (const Json& change : section.at("residency")) read_change(change);
    const Json& events = file.at("traceEvents");
    for (const Json& event : events) read_row(event);
    for (const Json& event : events) read_span(event);
    sort();
    return std::move(out_);
  }

 private:
  void read_image(const Json& image) {
    constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
    out_.layout = {.image = {natural(image.at("bytes"), kMax, "the image's size")},
                   .page = {natural(image.at("page_bytes"), kMax, "the size of a page")}};
    if (out_.layout.page == Bytes{}) wrong("pages have no bytes");
    if (out_.layout.image / out_.layout.page >= kMaxPages) {
      wrong(fmt::format("the image has more than {} pages", kMaxPages));
    }
    pages_ = out_.layout.page_count();
    for (const Json& part : image.at("parts")) {
      out_.parts.push_back({part.at(0).get<std::string>(), range(part.at(1), part.at(2))});
    }
  }

  ByteRange range(const Json& offset, const Json& size) const {
    const std::uint64_t image = out_.layout.image.count;
    const std::uint64_t begin = natural(offset, image, "an offset in the image");
    return {{begin}, {natural(size, image - begin, "the size of a part of the image")}};
  }

  void read_policy(const Json& policy) {
    out_.policy.window = natural32(policy.at("window"), "the policy's window");
    out_.policy.prefetch_depth = natural32(policy.at("prefetch_depth"), "the prefetch depth");
    out_.pages_per_copy = natural32(policy.at("pages_per_copy"), "the pages per copy");
  }

  void read_plan(const Json& json) {
    RecordedPlan plan{.set = seconds(json.at("ts")), .plan = {}};
    for (const Json& step : json.at("steps")) {
      PlanStep& added = plan.plan.steps.emplace_back();
      added.name = step.at("name").get<std::string>();
      for (const Json& read : step.at("reads")) {
        added.reads.push_back(range(read.at(0), read.at(1)));
      }
      if (!step.contains("choices")) continue;
      for (const Json& choice : step.at("choices")) {
        added.choices.push_back(range(choice.at(0), choice.at(1)));
      }
      added.choose_at_most = natural32(step.at("choose_at_most"), "choose_at_most");
    }
    if (json.contains("prefetch_depth")) {
      plan.plan.prefetch_depth = natural32(json.at("prefetch_depth"), "a plan's prefetch depth");
    }
    out_.plans.push_back(std::move(plan));
  }

  PageRun pages(const Json& first, const Json& count) const {
    const std::uint64_t begin = natural(first, pages_, "a page");
    const std::uint64_t size = natural(count, pages_ - begin, "a count of pages");
    return {{static_cast<std::uint32_t>(begin)}, static_cast<std::uint32_t>(size)};
  }

  void read_change(const Json& change) {
    out_.changes.push_back({.at = seconds(change.at(0)),
                            .pages = pages(change.at(1), change.at(2)),
                            .arrived = natural(change.at(3), 1, "a change") == 1});
  }

  void read_row(const Json& event) {
    if (event.at("ph") == "M" && event.at("name") == "thread_name") {
      rows_[natural(event.at("tid"), kMax32, "a tid")] = event.at("args").at("name");
    }
  }

  void read_span(const Json& event) {
    if (event.at("ph") != "X") return;
    const std::string& row = rows_[natural(event.at("tid"), kMax32, "a tid")];
    const double begin = seconds(event.at("ts"));
    const double end = begin + seconds(event.at("dur"));
    if (end < begin) wrong("a span ends before it begins");
    if (row == "copies") {
      const Json& args = event.at("args");
      const PageRun run = pages(args.at("first"), args.at("pages"));
      const Bytes size = run.count == 0 ? Bytes{} : out_.layout.bytes_of(run.first, run.count).size;
      out_.copies.push_back(
          {begin, end, run, {natural(args.at("bytes"), size.count, "the bytes of a copy")}});
    } else if (row == "pager") {
      out_.mapping += end - begin;
    } else if (row.ends_with(": steps")) {
      out_.steps.push_back(span(event, row, begin, end));
    } else if (row.ends_with(": stalls")) {
      out_.stalls.push_back(span(event, row, begin, end));
    }
  }

  RecordedSpan span(const Json& event, const std::string& row, double begin, double end) {
    const auto stream =
        streams_.emplace(row.substr(0, row.find(':')), static_cast<std::uint32_t>(streams_.size()));
    RecordedSpan span{begin, end, stream.first->second, event.at("name").get<std::string>(), {}};
    if (!event.contains("args") || !event["args"].contains("plan")) return span;
    const Json& args = event["args"];
    const std::uint64_t plan = natural(args.at("plan"), kMax32, "a step's plan");
    if (plan >= out_.plans.size()) wrong(fmt::format("there is no plan {}", plan));
    const std::uint32_t step = natural32(args.at("step"), "a step");
    if (step >= out_.plans[plan].plan.steps.size()) {
      wrong(fmt::format("plan {} has no step {}", plan, step));
    }
    span.position = {static_cast<std::uint32_t>(plan), StepIndex{step}};
    return span;
  }

  void sort() {
    std::ranges::stable_sort(out_.copies, {}, &RecordedCopy::begin);
    std::ranges::stable_sort(out_.steps, {}, &RecordedSpan::begin);
    std::ranges::stable_sort(out_.stalls, {}, &RecordedSpan::begin);
  }

  Recording out_;
  std::uint64_t pages_ = 0;
  std::map<std::uint64_t, std::string> rows_;
  std::map<std::string, std::uint32_t> streams_;
};

Json parse(const std::filesystem::path& path) {
  std::ifstream in(path);
  const bool folder = std::filesystem::is_directory(path);
  if (!in || folder) {
    throw TraceError(fmt::format("cannot open {}: {}; give what qwen_prefill --trace FILE wrote",
                                 path.string(), cause_of(folder ? EISDIR : errno)));
  }
  Json json = Json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    throw TraceError(
        fmt::format("{} is not a trace file, or was cut off: it is not JSON; write one with "
                    "qwen_prefill --trace FILE",
                    path.string()));
  }
  if (!json.is_object() || !json.contains("traceEvents") || !json.contains("tensor_pager")) {
    throw TraceError(
        fmt::format("{} is not a trace of this program, or of a version that did not say what it "
                    "paged; write one with qwen_prefill --trace FILE",
                    path.string()));
  }
  return json;
}

}  // namespace

std::uint32_t Recording::frames_at(double time) const {
  std::uint32_t count = 0;
  for (const auto& [at, frame_count] : frames) {
    if (at <= time) count = frame_count;
  }
  return count;
}

double Recording::end() const {
  double last = 0;
  for (const RecordedCopy& copy : copies) last = std::max(last, copy.end);
  for (const RecordedSpan& step : steps) last = std::max(last, step.end);
  for (const RecordedSpan& stall : stalls) last = std::max(last, stall.end);
  if (!changes.empty()) last = std::max(last, changes.back().at);
  return last;
}

Recording read_recording(const std::filesystem::path& path) {
  const Json json = parse(path);
  try {
    return Reader().read(json);
  } catch (const Json::exception& error) {
    throw TraceError(
        fmt::format("{} is damaged, or another version's: {}", path.string(), error.what()));
  } catch (const TraceError& error) {
    throw TraceError(
        fmt::format("{} is damaged, or another version's: {}", path.string(), error.what()));
  }
}

}  // namespace tensor_pager::pager_stats
