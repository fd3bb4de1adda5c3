// SPDX-License-Identifier: Apache-2.0
#include "views/trace_section.hpp"

#include <ostream>

#include "views/json_text.hpp"

namespace tensor_pager {

namespace {

/// Changes whenever a reader of the former files would misread the new ones.
constexpr int kVersion = 1;

/// Writes "[", the elements with commas between them, each by `write`, and "]".
template <class Elements, class Write>
void write_list(std::ostream& out, const Elements& elements, const Write& write) {
  const char* separator = "";
  out << '[';
  for (const auto& element : elements) {
    out << separator;
    write(element);
    separator = ",";
  }
  out << ']';
}

void write_ranges(std::ostream& out, const std::vector<ByteRange>& ranges) {
  write_list(out, ranges, [&](const ByteRange& range) {
    out << '[' << range.offset.count << ',' << range.size.count << ']';
  });
}

void write_step(std::ostream& out, const PlanStep& step) {
  out << "\n{\"name\":\"" << json_text(step.name) << "\",\"reads\":";
  write_ranges(out, step.reads);
  if (!step.choices.empty()) {
    out << ",\"choices\":";
    write_ranges(out, step.choices);
    out << ",\"choose_at_most\":" << step.choose_at_most;
  }
  out << '}';
}

}  // namespace

double Trace::Section::time(Time at) const {
  return std::chrono::duration<double, std::micro>(at - trace_.start_).count();
}

void Trace::Section::write(std::ostream& out) const {
  out << "{\"version\":" << kVersion << ",\n";
  write_image(out);
  out << ",\n";
  write_plans(out);
  out << ",\n";
  write_changes(out);
  out << '}';
}

void Trace::Section::write_image(std::ostream& out) const {
  const Trace::Setting& setting = trace_.setting_;
  out << "\"image\":{\"bytes\":" << setting.layout.image.count
      << ",\"page_bytes\":" << setting.layout.page.count << ",\"parts\":";
  write_list(out, trace_.parts_, [&](const NamedRange& part) {
    out << "\n[\"" << json_text(part.name) << "\"," << part.bytes.offset.count << ','
        << part.bytes.size.count << ']';
  });
  out << "},\n\"policy\":{\"window\":" << setting.policy.window
      << ",\"prefetch_depth\":" << setting.policy.prefetch_depth
      << ",\"pages_per_copy\":" << setting.pages_per_copy << '}';
}

void Trace::Section::write_plans(std::ostream& out) const {
  out << "\"plans\":";
  write_list(out, trace_.plans_, [&](const PlanSet& set) {
    out << "{\"ts\":" << time(set.at) << ",\"steps\":";
    write_list(out, set.plan.steps, [&](const PlanStep& step) { write_step(out, step); });
    if (set.plan.prefetch_depth) out << ",\"prefetch_depth\":" << *set.plan.prefetch_depth;
    out << '}';
  });
}

void Trace::Section::write_changes(std::ostream& out) const {
  out << "\"frames\":";
  write_list(out, trace_.frames_, [&](const auto& change) {
    out << '[' << time(change.first) << ',' << change.second << ']';
  });
  out << ",\n\"residency\":";
  write_list(out, trace_.changes_, [&](const ResidencyChange& change) {
    out << "\n[" << time(change.at) << ',' << change.pages.first.value << ',' << change.pages.count
        << ',' << (change.arrived ? 1 : 0) << ']';
  });
}

}  // namespace tensor_pager
