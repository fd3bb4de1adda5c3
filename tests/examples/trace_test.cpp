// Traces keep the rules by which Perfetto shows them. The checks read the file as it would.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

using nlohmann::json;

struct Slice {
  double begin = 0, end = 0;
  std::string name, detail;
};

// What a viewer makes of the events.
struct TraceFile {
  std::map<int, std::string> rows;
  std::map<int, std::vector<Slice>> slices;    // by row, in order
  std::map<int, std::pair<json, json>> flows;  // by id
  std::map<std::string, std::vector<std::pair<double, double>>> counters;

  explicit TraceFile(const std::string& path) {
    std::ifstream in(path);
    const json trace = json::parse(in);
    for (const json& event : trace["traceEvents"]) read(event);
    for (auto& [tid, row] : slices) {
      std::ranges::sort(row, [](const Slice& a, const Slice& b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
      });
    }
  }

  void read(const json& event) {
    const std::string phase = event["ph"];
    if (phase == "M" && event["name"] == "thread_name") rows[event["tid"]] = event["args"]["name"];
    if (phase == "X") {
      const double begin = event["ts"];
      const json detail = event.value("args", json::object()).value("detail", json(""));
      slices[event["tid"]].push_back(
          {begin, begin + event["dur"].get<double>(), event["name"], detail});
    }
    if (phase == "s") flows[event["id"]].first = event;
    if (phase == "f") flows[event["id"]].second = event;
    if (phase == "C") {
      counters[event["name"]].emplace_back(event["ts"], event["args"].begin().value());
    }
  }

  const Slice* at(const json& event) const {
    for (const Slice& slice : slices.at(event["tid"].get<int>())) {
      const double time = event["ts"];
      if (slice.begin <= time && time <= slice.end) return &slice;
    }
    return nullptr;
  }
};

class TraceTest : public testing::Test {
 protected:
  TraceFile trace() {
    const std::string file = directory_ / "trace.json";
    const tests::ProcessResult run = tests::run_process(
        QWEN_PREFILL,
        {"-q", "--device", "host", "-m", test_data("models/tiny-qwen2-q4_k_m.gguf"), "-p",
         "In the beginning God created", "-n", "3", "--arena", "40%", "--trace", file});
    EXPECT_EQ(run.status, 0) << run.err;
    return TraceFile(file);
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(TraceTest, SlicesOfARowAreNestedOrFollowEachOther) {
  const TraceFile file = trace();
  std::set<std::string> names;
  for (const auto& [tid, name] : file.rows) names.insert(name);
  EXPECT_TRUE(names.contains("copies") && names.contains("pager") &&
              names.contains("stream 0: steps"));
  for (const auto& [tid, row] : file.slices) {
    ASSERT_TRUE(file.rows.contains(tid)) << "row " << tid << " has no name";
    std::vector<double> open;
    for (const Slice& slice : row) {
      while (!open.empty() && open.back() <= slice.begin) open.pop_back();
      ASSERT_TRUE(open.empty() || slice.end <= open.back())
          << slice.name << " in row " << file.rows.at(tid) << " overlaps another";
      open.push_back(slice.end);
    }
  }
}

TEST_F(TraceTest, EveryCopyThatAStepUsedHasItsArrow) {
  const TraceFile file = trace();
  std::set<std::string> arrows_from;
  for (const auto& [id, flow] : file.flows) {
    ASSERT_FALSE(flow.first.is_null() || flow.second.is_null()) << "flow " << id << " has one end";
    const Slice* const copy = file.at(flow.first);
    const Slice* const step = file.at(flow.second);
    ASSERT_NE(copy, nullptr);
    ASSERT_NE(step, nullptr);
    EXPECT_EQ(copy->name, "copy");
    EXPECT_EQ(file.rows.at(flow.second["tid"]), "stream 0: steps");
    EXPECT_LE(flow.first["ts"], flow.second["ts"]);
    EXPECT_LE(copy->end, step->begin + 0.002) << "a step began before its pages were there";
    arrows_from.insert(copy->detail + std::to_string(copy->begin));
  }
  // Only what was brought in for steps that did not come any more has none: at most the depth, in
  // each of the two phases.
  std::size_t copies = 0;
  for (const auto& [tid, name] : file.rows) {
    if (name == "copies") copies += file.slices.at(tid).size();
  }
  EXPECT_GT(copies, 50U);
  EXPECT_GE(arrows_from.size() + 2 * 16U, copies);
}

TEST_F(TraceTest, CountersStayWithinWhatThereIs) {
  const TraceFile file = trace();
  const auto& resident = file.counters.at("resident");
  const auto& rate = file.counters.at("link rate");
  EXPECT_GT(resident.size(), 10U);
  for (const auto& [at, bytes] : resident) {
    EXPECT_GT(bytes, 0);
    EXPECT_LE(bytes, 1.4e6);  // 40% of 3.1 MiB, in whole pages
  }
  EXPECT_EQ(rate.back().second, 0);  // nothing is copied in the end
  EXPECT_TRUE(std::ranges::is_sorted(rate, {}, &std::pair<double, double>::first));
}

}  // namespace
}  // namespace tensor_pager::qwen
