// SPDX-License-Identifier: Apache-2.0
#include "report/report.hpp"

#include <span>
#include <string_view>
#include <vector>

#include "output/replacement_file.hpp"
#include "report/report_data.hpp"
#include "report_assets.hpp"

namespace tensor_pager::pager_stats {
namespace {

/// JSON that can stand in a script element: nothing in it ends the element or begins a comment.
std::string embedded(const nlohmann::ordered_json& data) {
  std::string out;
  for (const char c : data.dump()) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

/// Puts text into the places of the page that are named "{{NAME}}", each once, from the first to
/// the last. What was put in is not looked at again.
class Template {
 public:
  explicit Template(std::string_view text) : rest_(text) {}

  Template& fill(std::string_view place, std::string_view text) {
    const std::size_t at = rest_.find(place);
    out_.append(rest_.substr(0, at)).append(text);
    rest_.remove_prefix(at + place.size());
    return *this;
  }
  std::string finish() { return std::move(out_.append(rest_)); }

 private:
  std::string_view rest_;
  std::string out_;
};

}  // namespace

std::string report_page(const nlohmann::ordered_json& data) {
  Template page(assets::report_html);
  page.fill("{{STYLE}}", assets::report_css)
      .fill("{{DATA}}", embedded(data))
      .fill("{{FORMAT}}", assets::format_js)
      .fill("{{DATA_MODEL}}", assets::data_js)
      .fill("{{SUMMARY}}", assets::summary_js)
      .fill("{{TIME_VIEW}}", assets::time_view_js)
      .fill("{{TIMELINE}}", assets::timeline_js)
      .fill("{{RESIDENCY}}", assets::residency_js)
      .fill("{{TRAFFIC}}", assets::traffic_js)
      .fill("{{WHAT_IF}}", assets::what_if_js)
      .fill("{{MAIN}}", assets::main_js);
  return page.finish();
}

WrittenReport write_report(const std::filesystem::path& stats, const std::filesystem::path& trace,
                           const std::filesystem::path& out) {
  output::ReplacementFile file(out);
  const std::vector<Field> fields = read_stats(stats);
  const Recording recording = read_recording(trace);
  require_same_run(fields, recording);
  const nlohmann::ordered_json data = report_data(fields, recording);
  const std::string page = report_page(data);
  file.write(std::as_bytes(std::span(page)));
  file.commit();
  return {.size = {page.size()}, .answer = data["answer"].get<std::string>()};
}

}  // namespace tensor_pager::pager_stats
