// SPDX-License-Identifier: Apache-2.0
// docs/statistics.md names what is in a statistics file, all of it and nothing else.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

// The field that a row of the page is about: "section.name" of "| `section.name` | meaning |", else
// nothing.
std::string documented_field(std::string_view line) {
  constexpr std::string_view kBegin = "| `";
  constexpr std::string_view kEnd = "` | ";
  if (!line.starts_with(kBegin) || !line.ends_with(" |")) return {};
  line.remove_prefix(kBegin.size());
  const std::string_view field = line.substr(0, line.find(kEnd));
  return field.find('.') == std::string_view::npos ? std::string() : std::string(field);
}

TEST(StatisticsPage, HasEveryFieldOfAFileAndNoOther) {
  const tests::TemporaryDirectory directory;
  const std::string file = directory / "stats.json";
  const tests::ProcessResult run = tests::run_process(
      QWEN_PREFILL, {"-q", "--device", "host", "-m", test_data("models/tiny-qwen2-q4_k_m.gguf"),
                     "-p", "In", "-n", "1", "--stats", file});
  ASSERT_EQ(run.status, 0) << run.err;
  std::ifstream in(file);
  const nlohmann::json stats = nlohmann::json::parse(in);
  std::set<std::string> written;
  for (const auto& [section, fields] : stats.items()) {
    for (const auto& [name, value] : fields.items()) written.insert(section + "." + name);
  }

  std::ifstream page(STATISTICS_PAGE);
  ASSERT_TRUE(page) << STATISTICS_PAGE;
  std::set<std::string> documented;
  for (std::string line; std::getline(page, line);) {
    if (const std::string field = documented_field(line); !field.empty()) documented.insert(field);
  }
  EXPECT_EQ(written, documented);
}

}  // namespace
}  // namespace tensor_pager::qwen
