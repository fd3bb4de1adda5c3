// SPDX-License-Identifier: Apache-2.0
#include "pager/trace.hpp"

#include <algorithm>
#include <map>
#include <ostream>
#include <utility>

#include "views/json_text.hpp"
#include "views/trace_section.hpp"

namespace tensor_pager {

namespace {

/// The row that a span belongs to, before rows are divided. It is a tid of the format.
std::uint32_t row_of(const Trace::Span& span) {
  switch (span.track) {
    case Trace::Track::copies:
      return 1;
    case Trace::Track::pager:
      return 2;
    case Trace::Track::steps:
      return 10 + 2 * span.stream;
    case Trace::Track::stalls:
      return 11 + 2 * span.stream;
  }
  return 0;
}

std::string name_of(const Trace::Span& span) {
  switch (span.track) {
    case Trace::Track::copies:
      return "copies";
    case Trace::Track::pager:
      return "pager";
    case Trace::Track::steps:
      return "stream " + std::to_string(span.stream) + ": steps";
    case Trace::Track::stalls:
      return "stream " + std::to_string(span.stream) + ": stalls";
  }
  return "";
}

/// What a span says about itself beside its times: members of a JSON object.
std::string arguments_of(const Trace::Span& span) {
  std::string out;
  const auto add = [&](const std::string& name, const std::string& value) {
    out += (out.empty() ? "\"" : ",\"") + name + "\":" + value;
  };
  if (!span.detail.empty()) add("detail", '"' + json_text(span.detail) + '"');
  if (span.position) {
    add("plan", std::to_string(span.position->plan));
    add("step", std::to_string(span.position->step.value));
  }
  if (span.pages.count > 0) {
    add("first", std::to_string(span.pages.first.value));
    add("pages", std::to_string(span.pages.count));
    add("bytes", std::to_string(span.bytes.count));
  }
  return out;
}

/// Writes events, one a line, with times since `start`.
class Events {
 public:
  Events(std::ostream& out, Trace::Time start) : out_(out), start_(start) {
    out_ << "\"traceEvents\":[";
    out_ << R"({"ph":"M","pid":1,"name":"process_name","args":{"name":"tensor-pager"}})";
  }
  ~Events() { out_ << ']'; }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  void row(std::uint32_t tid, const std::string& name) {
    begin("M") << ",\"tid\":" << tid << R"(,"name":"thread_name","args":{"name":")" << name
               << "\"}}";
  }
  void span(const Trace::Span& span, std::uint32_t tid) {
    begin("X") << ",\"tid\":" << tid << ",\"name\":\"" << json_text(span.name)
               << "\",\"ts\":" << time(span.begin)
               << ",\"dur\":" << duration(span.end - span.begin);
    const std::string arguments = arguments_of(span);
    if (!arguments.empty()) out_ << ",\"args\":{" << arguments << '}';
    out_ << "}";
  }
  /// An arrow from the end of one span to the beginning of another.
  void flow(const Trace::Span& from, std::uint32_t from_tid, const Trace::Span& to,
            std::uint32_t to_tid) {
    ++flows_;
    // Within the first span, which does not contain its end, and never after the second's
    // beginning.
    const double start =
        std::max(time(from.begin), std::min(time(from.end) - 1e-3, time(to.begin)));
    end_of_flow("s", from_tid, start);
    end_of_flow("f", to_tid, std::max(start, time(to.begin)));
  }
  void counter(const char* name, const char* unit, Trace::Time at, double value) {
    begin("C") << ",\"name\":\"" << name << "\",\"ts\":" << time(at) << ",\"args\":{\"" << unit
               << "\":" << value << "}}";
  }

 private:
  std::ostream& begin(const char* phase) {
    return out_ << ",\n{\"ph\":\"" << phase << "\",\"pid\":1";
  }
  void end_of_flow(const char* phase, std::uint32_t tid, double at) {
    begin(phase) << ",\"tid\":" << tid << R"(,"cat":"pages","name":"pages","id":)" << flows_
                 << ",\"ts\":" << at << (*phase == 'f' ? R"(,"bp":"e"})" : "}");
  }
  static double duration(Trace::Clock::duration d) {
    return std::chrono::duration<double, std::micro>(d).count();
  }
  double time(Trace::Time at) const { return duration(at - start_); }

  std::ostream& out_;
  Trace::Time start_;
  std::uint64_t flows_ = 0;
};

/// Gives each span of a row a tid: the row's own, or where it would overlap another without being
/// within it, a further one.
class Rows {
 public:
  std::uint32_t place(const Trace::Span& span) {
    const std::uint32_t row = row_of(span);
    std::vector<std::vector<Trace::Time>>& lanes = lanes_[row];
    for (std::size_t lane = 0;; ++lane) {
      if (lane == lanes.size()) lanes.emplace_back();
      std::vector<Trace::Time>& open = lanes[lane];  // ends of the spans that this one is in
      while (!open.empty() && open.back() <= span.begin) open.pop_back();
      if (!open.empty() && open.back() < span.end) continue;
      open.push_back(span.end);
      return row + kLane * static_cast<std::uint32_t>(lane);
    }
  }

 private:
  static constexpr std::uint32_t kLane = 1000;
  std::map<std::uint32_t, std::vector<std::vector<Trace::Time>>> lanes_;
};

void write_link_rate(Events& events, const std::vector<const Trace::Span*>& ordered) {
  const Trace::Span* former = nullptr;
  const auto rate = [&](Trace::Time at, double value) {
    events.counter("link rate", "GB/s", at, value);
  };
  for (const Trace::Span* span : ordered) {
    if (span->track != Trace::Track::copies || span->end <= span->begin) continue;
    if (former != nullptr && former->end < span->begin) rate(former->end, 0);
    const std::chrono::duration<double> seconds = span->end - span->begin;
    rate(span->begin, static_cast<double>(span->bytes.count) / seconds.count() / 1e9);
    former = span;
  }
  if (former != nullptr) rate(former->end, 0);
}

}  // namespace

void Trace::add(Span span) {
  const std::lock_guard lock(mutex_);
  spans_.push_back(std::move(span));
}

void Trace::resident(Time at, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  resident_.emplace_back(at, bytes);
}

void Trace::describe(const Setting& setting, std::span<const NamedRange> parts) {
  const std::lock_guard lock(mutex_);
  setting_ = setting;
  parts_.assign(parts.begin(), parts.end());
}

void Trace::plan_set(Time at, const AccessPlan& plan) {
  const std::lock_guard lock(mutex_);
  plans_.push_back({at, plan});
}

void Trace::frames(Time at, std::uint32_t count) {
  const std::lock_guard lock(mutex_);
  frames_.emplace_back(at, count);
}

void Trace::arrived(Time at, PageRun pages) {
  const std::lock_guard lock(mutex_);
  changes_.push_back({at, pages, true});
}

void Trace::evicted(Time at, std::span<const PageIndex> pages) {
  const std::lock_guard lock(mutex_);
  const std::size_t before = changes_.size();
  for (const PageIndex page : pages) {
    const bool extends =
        changes_.size() > before &&
        changes_.back().pages.first.value + changes_.back().pages.count == page.value;
    if (extends) {
      ++changes_.back().pages.count;
    } else {
      changes_.push_back({at, {page, 1}, false});
    }
  }
}

std::vector<std::pair<Trace::Time, Trace::Time>> Trace::spans(Track track) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<Time, Time>> times;
  for (const Span& span : spans_) {
    if (span.track == track) times.emplace_back(span.begin, span.end);
  }
  return times;
}

void Trace::write(std::ostream& out) const {
  const std::lock_guard lock(mutex_);
  const std::streamsize precision = out.precision(15);
  out << "{\"displayTimeUnit\":\"ms\",";
  write_events(out);
  if (setting_.layout.page > Bytes{}) {
    out << ",\n\"tensor_pager\":";
    Section(*this).write(out);
  }
  out << "}\n";
  out.precision(precision);
}

void Trace::write_events(std::ostream& out) const {
  std::vector<const Span*> ordered;
  for (const Span& span : spans_) ordered.push_back(&span);
  // What contains another comes first.
  std::ranges::stable_sort(ordered, [](const Span* a, const Span* b) {
    return a->begin != b->begin ? a->begin < b->begin : a->end > b->end;
  });
  Events events(out, start_);
  Rows rows;
  std::map<std::uint32_t, std::string> names;
  std::map<std::uint64_t, std::pair<const Span*, std::uint32_t>> copies;
  std::vector<std::pair<const Span*, std::uint32_t>> steps;
  for (const Span* span : ordered) {
    const std::uint32_t tid = rows.place(*span);
    if (names.emplace(tid, name_of(*span)).second) events.row(tid, name_of(*span));
    events.span(*span, tid);
    if (span->copy != 0) copies[span->copy] = {span, tid};
    if (!span->copies.empty()) steps.emplace_back(span, tid);
  }
  for (const auto& [step, tid] : steps) {
    for (const std::uint64_t id : step->copies) {
      const auto copy = copies.find(id);
      if (copy != copies.end()) events.flow(*copy->second.first, copy->second.second, *step, tid);
    }
  }
  for (const auto& [at, bytes] : resident_) {
    events.counter("resident", "bytes", at, static_cast<double>(bytes.count));
  }
  write_link_rate(events, ordered);
}

}  // namespace tensor_pager
