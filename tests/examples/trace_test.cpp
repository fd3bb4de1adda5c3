// SPDX-License-Identifier: Apache-2.0
// Traces keep the rules by which Perfetto shows them. The checks read the file as it would.
#include "pager/trace.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "loaders/gguf.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

using nlohmann::json;

struct Slice {
  double begin = 0, end = 0;
  std::string name, detail;
  json args = json::object();
};

// What a viewer makes of the events.
struct TraceFile {
  std::map<int, std::string> rows;
  std::map<int, std::vector<Slice>> slices;    // by row, in order
  std::map<int, std::pair<json, json>> flows;  // by id
  std::map<std::string, std::vector<std::pair<double, double>>> counters;
  json section;  // "tensor_pager"

  explicit TraceFile(const std::string& path) {
    std::ifstream in(path);
    const json trace = json::parse(in);
    for (const json& event : trace["traceEvents"]) read(event);
    section = trace["tensor_pager"];
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
      const json args = event.value("args", json::object());
      slices[event["tid"]].push_back({begin, begin + event["dur"].get<double>(), event["name"],
                                      args.value("detail", json("")), args});
    }
    if (phase == "s") flows[event["id"]].first = event;
    if (phase == "f") flows[event["id"]].second = event;
    if (phase == "C") {
      counters[event["name"]].emplace_back(event["ts"], event["args"].begin().value());
    }
  }

  // Of all rows of that name, in order.
  std::vector<Slice> named(const std::string& name) const {
    std::vector<Slice> found;
    for (const auto& [tid, row_name] : rows) {
      if (row_name == name) found.insert(found.end(), slices.at(tid).begin(), slices.at(tid).end());
    }
    std::ranges::sort(found, {}, &Slice::begin);
    return found;
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

// How many frames there were at that time.
std::uint64_t frames_at(const json& section, double time) {
  std::uint64_t frames = 0;
  for (const json& change : section["frames"]) {
    if (change[0] <= time) frames = change[1];
  }
  return frames;
}

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

// Every page that arrives was not there, every one that goes was; the sum is the counter's.
TEST_F(TraceTest, PagesThatCameAndWentAreWhatIsResident) {
  const TraceFile file = trace();
  const std::uint64_t page = file.section["image"]["page_bytes"];
  std::map<double, std::uint64_t> resident_at;  // after the changes of that time
  std::set<std::uint64_t> resident;
  double last = 0;
  for (const json& change : file.section["residency"]) {
    const double time = change[0];
    ASSERT_GE(time, last);
    last = time;
    for (std::uint64_t k = 0; k < change[2].get<std::uint64_t>(); ++k) {
      const std::uint64_t number = change[1].get<std::uint64_t>() + k;
      ASSERT_EQ(change[3] == 1 ? resident.insert(number).second : resident.erase(number) == 1, true)
          << "page " << number << " at " << time;
    }
    ASSERT_LE(resident.size(), frames_at(file.section, time));
    resident_at[time] = resident.size();
  }
  std::size_t compared = 0;
  for (const auto& [time, bytes] : file.counters.at("resident")) {
    ASSERT_TRUE(resident_at.contains(time));
    ASSERT_EQ(static_cast<double>(resident_at.at(time) * page), bytes);
    ++compared;
  }
  EXPECT_EQ(compared, resident_at.size());
}

TEST_F(TraceTest, WhatArrivesWasCopiedBefore) {
  const TraceFile file = trace();
  std::map<std::pair<int, int>, std::vector<double>> ends;  // of the copies of these pages
  for (const Slice& copy : file.named("copies")) {
    ends[{copy.args["first"], copy.args["pages"]}].push_back(copy.end);
  }
  std::map<std::pair<int, int>, std::size_t> arrivals;
  for (const json& change : file.section["residency"]) {
    if (change[3] != 1) continue;
    const std::pair<int, int> pages{change[1], change[2]};
    ASSERT_LT(arrivals[pages], ends[pages].size());
    EXPECT_LE(ends[pages][arrivals[pages]++], change[0]);
  }
  for (const auto& [pages, copies] : ends) EXPECT_EQ(arrivals[pages], copies.size());
}

TEST_F(TraceTest, StepsFollowTheirPlans) {
  const TraceFile file = trace();
  const json& plans = file.section["plans"];
  ASSERT_EQ(plans.size(), 2U);  // of the prompt and of generation
  std::vector<std::size_t> counted(plans.size());
  for (const Slice& step : file.named("stream 0: steps")) {
    const json& plan = plans.at(step.args["plan"].get<std::size_t>());
    std::size_t& count = counted.at(step.args["plan"].get<std::size_t>());
    EXPECT_EQ(step.args["step"], count % plan["steps"].size());
    const json& planned = plan["steps"][count % plan["steps"].size()];
    EXPECT_EQ(planned["name"], step.name);
    EXPECT_GE(step.begin, plan["ts"].get<double>());
    ++count;
  }
  EXPECT_EQ(counted[0], plans[0]["steps"].size());
  EXPECT_EQ(counted[1], 2 * plans[1]["steps"].size());  // the third token is not run
}

TEST_F(TraceTest, TheImageHasItsPartsByName) {
  const json image = trace().section["image"];
  const auto model = loaders::GgufModel::open(test_data("models/tiny-qwen2-q4_k_m.gguf"));
  EXPECT_EQ(image["bytes"], model.image_bytes().count);
  ASSERT_EQ(image["parts"].size(), model.tensors().size());
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    const loaders::TensorInfo& tensor = model.tensors()[i];
    EXPECT_EQ(image["parts"][i],
              json::array({tensor.name, tensor.bytes.offset.count, tensor.bytes.size.count}));
  }
}

// Names come from files, which may contain anything.
TEST(TraceFileNames, AreJsonWhateverTheyContain) {
  const auto written = [](const std::string& name) {
    Trace trace;
    const NamedRange part{name, {}};
    trace.describe({.layout = {KiB(4), KiB(4)}}, {&part, 1});
    std::ostringstream out;
    trace.write(out);
    return json::parse(out.str())["tensor_pager"]["image"]["parts"][0][0].get<std::string>();
  };
  const std::string valid = "\"\\\n</script> \u00e9\u20ac\U0001f600";
  EXPECT_EQ(written(valid), valid);
  EXPECT_EQ(written("a\xff"
                    "b"),
            "a\ufffdb");
  EXPECT_EQ(written("\xc0\xaf"), "\ufffd\ufffd");            // overlong
  EXPECT_EQ(written("\xed\xa0\x80"), "\ufffd\ufffd\ufffd");  // a surrogate
  EXPECT_EQ(written("\xe2\x82"), "\ufffd\ufffd");            // cut off
}

}  // namespace
}  // namespace tensor_pager::qwen
