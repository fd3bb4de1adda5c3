#include "pager/trace.hpp"

#include <ostream>
#include <utility>

namespace tensor_pager {

namespace {

const char* track_name(Trace::Track track) {
  switch (track) {
    case Trace::Track::steps:
      return "steps";
    case Trace::Track::stalls:
      return "stalls";
    case Trace::Track::copies:
      return "copies";
  }
  return "";
}

/// JSON string contents. Names are ours, but a step may be named after what a file says.
std::string escaped(const std::string& text) {
  static constexpr const char* kHex = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += kHex[(c >> 4) & 15];
      out += kHex[c & 15];
    } else {
      out += c;
    }
  }
  return out;
}

double microseconds(Trace::Clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

}  // namespace

void Trace::span(Track track, std::string name, Time begin, Time end, std::string detail) {
  const std::lock_guard lock(mutex_);
  spans_.push_back({track, begin, end, std::move(name), std::move(detail)});
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
  out << "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  for (const Track track : {Track::steps, Track::stalls, Track::copies}) {
    out << "{\"ph\":\"M\",\"pid\":1,\"tid\":" << static_cast<int>(track)
        << ",\"name\":\"thread_name\",\"args\":{\"name\":\"" << track_name(track) << "\"}},\n";
  }
  out << "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"tensor-pager\"}}";
  const auto precision = out.precision(15);
  for (const Span& span : spans_) {
    out << ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":" << static_cast<int>(span.track) << ",\"name\":\""
        << escaped(span.name) << "\",\"ts\":" << microseconds(span.begin - start_)
        << ",\"dur\":" << microseconds(span.end - span.begin);
    if (!span.detail.empty()) out << ",\"args\":{\"detail\":\"" << escaped(span.detail) << "\"}";
    out << "}";
  }
  out.precision(precision);
  out << "]}\n";
}

}  // namespace tensor_pager
