// docs/statistics.md names what is in a statistics file, all of it and nothing else.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

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
  const std::regex row(R"(^\| `([a-z]+\.[a-z0-9_]+)` \| .+ \|$)");
  std::set<std::string> documented;
  for (std::string line; std::getline(page, line);) {
    std::smatch match;
    if (std::regex_match(line, match, row)) documented.insert(match[1]);
  }
  EXPECT_EQ(written, documented);
}

}  // namespace
}  // namespace tensor_pager::qwen
