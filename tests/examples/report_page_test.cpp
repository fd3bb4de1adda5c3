// SPDX-License-Identifier: Apache-2.0
// pager_stats --html over the files of a run: the page is opened in a browser, and its figures are
// those of the files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "../temporary_directory.hpp"
#include "browser.hpp"
#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;
using tests::ProcessResult;

class ReportPage : public testing::Test {
 protected:
  void SetUp() override { run_model("30%", "stats", "trace"); }

  std::string path(const std::string& name) const { return directory_ / name; }

  void run_model(const std::string& arena, const std::string& stats, const std::string& trace) {
    const ProcessResult run = tests::run_process(
        QWEN_PREFILL, {"-q", "--device", "host", "-m", test_data("models/tiny-qwen2-q4_k_m.gguf"),
                       "-p", "In the beginning God created the heaven and the earth.", "-n", "4",
                       "--arena", arena, "--stats", path(stats), "--trace", path(trace)});
    ASSERT_EQ(run.status, 0) << run.err;
  }
  ProcessResult write_page(const std::string& stats, const std::string& trace) const {
    return tests::run_process(PAGER_STATS,
                              {path(stats), "--trace", path(trace), "--html", path("page.html")});
  }
  json read(const std::string& name) const {
    std::ifstream in(path(name));
    return json::parse(in);
  }
  void write(const std::string& name, const json& content) const {
    std::ofstream(path(name)) << content.dump();
  }
  std::string page_text() const {
    std::ifstream in(path("page.html"));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // What the page shows, as pager_stats put it there.
  json page_data() const {
    const std::string page = page_text();
    const std::string begin = "id=\"report-data\">";
    const std::size_t from = page.find(begin) + begin.size();
    return json::parse(page.substr(from, page.find("</script>", from) - from));
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(ReportPage, TrafficIsWhatTheStatisticsCounted) {
  ASSERT_EQ(write_page("stats", "trace").status, 0);
  const json data = page_data();
  const json stats = read("stats");
  for (const char* rows : {"parts", "groups"}) {
    double sum = 0;
    for (const json& row : data[rows]) {
      sum += row[row.size() - 2].get<double>() + row[row.size() - 1].get<double>();
    }
    EXPECT_EQ(sum, stats["bytes"]["h2d"]) << rows;
  }
  double pages = 0;
  for (const json& count : data["copies"]["n"]) pages += count.get<double>();
  EXPECT_GE(pages * stats["arena"]["page_bytes"].get<double>(), stats["bytes"]["h2d"]);
  EXPECT_EQ(data["parts"].size(), stats["model"]["tensors"].get<std::size_t>() + 1);
  EXPECT_EQ(data["stats"], stats);
}

TEST_F(ReportPage, PredictionsCoverTheArenaOfTheRun) {
  ASSERT_EQ(write_page("stats", "trace").status, 0);
  const json data = page_data();
  ASSERT_EQ(data["what_if"].size(), 2U);  // prompt and generation
  const json stats = read("stats");
  for (const json& curve : data["what_if"]) {
    EXPECT_EQ(curve["why_not"], "");
    EXPECT_EQ(curve["steps_measured"], curve["steps"]);
    EXPECT_GE(curve["points"].size(), 10U);
    double former = 0;
    for (const json& point : curve["points"]) {
      EXPECT_GT(point["bytes"], former);
      former = point["bytes"];
      EXPECT_GT(point["warm"]["tokens_per_s"], 0);
    }
    EXPECT_EQ(curve["points"][curve["own"].get<std::size_t>()]["bytes"], stats["arena"]["bytes"]);
    // A repeated pass with everything resident copies nothing.
    EXPECT_EQ(curve["points"].back()["warm"]["copied"], 0);
  }
  EXPECT_EQ(data["what_if"][0]["measured"], stats["rates"]["prefill_tokens_per_s"]);
  EXPECT_EQ(data["what_if"][1]["measured"], stats["rates"]["decode_tokens_per_s"]);
}

TEST_F(ReportPage, BeginsWithWhetherAnotherBudgetHelps) {
  const ProcessResult run = write_page("stats", "trace");
  ASSERT_EQ(run.status, 0) << run.err;
  const std::string answer = page_data()["answer"];
  EXPECT_TRUE(answer.starts_with("Would a larger budget help? ")) << answer;
  EXPECT_THAT(run.out, testing::MatchesRegex(path("page.html") + ": [0-9.]+ KiB; open it in a .*"));
  EXPECT_TRUE(run.out.ends_with("browser\n" + answer + "\n")) << run.out;
}

// A figure and its exact value, or its text.
void expect_value(const json& expected, const std::string& shown, const std::string& field) {
  if (expected.is_number()) {
    EXPECT_EQ(std::strtod(shown.c_str(), nullptr), expected.get<double>()) << field;
  } else {
    EXPECT_EQ(shown, expected.get<std::string>()) << field;
  }
}

TEST_F(ReportPage, ABrowserShowsTheFiguresOfTheStatistics) {
  const std::string browser = tests::find_browser();
  if (browser.empty()) GTEST_SKIP() << "there is no chromium in PATH";
  ASSERT_EQ(write_page("stats", "trace").status, 0);
  const tests::OpenedPage page = tests::open_page(browser, path("page.html"));
  EXPECT_THAT(page.console, IsEmpty());
  EXPECT_EQ(page.root_attribute("data-errors"), "0");
  EXPECT_EQ(page.root_attribute("data-ready"), "1");

  const json stats = read("stats");
  std::multimap<std::string, std::pair<std::string, std::string>> fields = page.fields();
  for (const char* headline :
       {"rates.prefill_tokens_per_s", "bound.fraction", "time.stall_s", "bytes.h2d",
        "bytes.optimal_h2d", "pages.hits", "arena.bytes", "model.weights_bytes"}) {
    EXPECT_EQ(fields.count(headline), 2U) << headline;  // and among all statistics
  }
  const auto number = [&](const char* section, const char* name) {
    return stats[section][name].get<double>();
  };
  const auto expect_derived = [&](const char* name, double value) {
    const auto found = fields.find(std::string("derived.") + name);
    ASSERT_NE(found, fields.end()) << name;
    EXPECT_DOUBLE_EQ(std::strtod(found->second.first.c_str(), nullptr), value) << name;
    fields.erase(found);
  };
  expect_derived("hit_rate", number("pages", "hits") /
                                 (number("pages", "hits") + number("pages", "prefetched") +
                                  number("pages", "late")));
  expect_derived("excess", number("bytes", "h2d") / number("bytes", "optimal_h2d") - 1);
  expect_derived("arena_share", number("arena", "bytes") / number("model", "weights_bytes"));
  expect_derived("stalled_share", number("time", "stall_s") /
                                      (number("time", "prefill_s") + number("time", "decode_s")));
  std::size_t shown = 0;
  for (const auto& [section, members] : stats.items()) {
    for (const auto& [name, value] : members.items()) {
      const std::string field = section + "." + name;
      const auto [begin, end] = fields.equal_range(field);
      EXPECT_NE(begin, end) << field << " is not on the page";
      for (auto found = begin; found != end; ++found, ++shown) {
        expect_value(value, found->second.first, field);
      }
    }
  }
  EXPECT_EQ(shown, fields.size()) << "the page shows a figure that the file does not have";
}

// As in pager_stats STATS: the same number reads the same.
TEST_F(ReportPage, UnitsAreThoseOfTheTable) {
  const std::string browser = tests::find_browser();
  if (browser.empty()) GTEST_SKIP() << "there is no chromium in PATH";
  ASSERT_EQ(write_page("stats", "trace").status, 0);
  const auto fields = tests::open_page(browser, path("page.html")).fields();
  const std::string table = tests::run_process(PAGER_STATS, {path("stats")}).out;
  for (const char* field : {"bytes.h2d", "arena.bytes", "model.weights_bytes", "arena.page_bytes",
                            "memory.peak_bytes", "rates.link_gb_per_s"}) {
    EXPECT_THAT(table, HasSubstr(fields.find(field)->second.second)) << field;
  }
}

// Pointer, wheel and keys, as a reader uses them; what the page says then is left in its root.
constexpr const char* kUse = R"(<script>
{
  const root = document.documentElement;
  const send = (id, event) => { byId(id).dispatchEvent(event); drawTimes(); };
  const point = (id, x, y) => {
    const box = byId(id).getBoundingClientRect();
    send(id, new PointerEvent("pointermove", { clientX: box.left + x, clientY: box.top + y }));
    return byId("tip").textContent;
  };
  const before = byId("readout").textContent;
  send("timeline", new WheelEvent("wheel", { deltaY: -900, clientX: 600, cancelable: true }));
  send("residency", new KeyboardEvent("keydown", { key: "ArrowRight" }));
  send("timeline", new KeyboardEvent("keydown", { key: "+" }));
  root.dataset.zoomed = String(before !== byId("readout").textContent);
  send("timeline", new KeyboardEvent("keydown", { key: "0" }));
  root.dataset.again = String(before === byId("readout").textContent);
  timeView.set(copies.begin[9], copies.end[9]);
  const x = new Drawing(byId("timeline")).x((copies.begin[9] + copies.end[9]) / 2);
  root.dataset.copy = point("timeline", x, rows[1].y + 4);
  const page = (byId("residency").clientHeight - kTop) / image.pages;
  root.dataset.page = point("residency", x, kTop + (copies.f[9] + 0.5) * page);
  byId("layers").firstChild.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  root.dataset.layer = byId("tip").textContent;
  byId("filter").value = "blk.3.ffn";
  byId("filter").dispatchEvent(new Event("input"));
  root.dataset.filtered = String(byId("tensors").tBodies[0].rows.length);
  document.querySelector("#tensors th button").click();
  root.dataset.sorted = byId("tensors").tBodies[0].rows[0].cells[0].textContent;
}
</script></body>)";

TEST_F(ReportPage, HoverGivesTheNumbers) {
  const std::string browser = tests::find_browser();
  if (browser.empty()) GTEST_SKIP() << "there is no chromium in PATH";
  ASSERT_EQ(write_page("stats", "trace").status, 0);
  std::string text = page_text();
  text.replace(text.rfind("</body>"), 7, kUse);
  std::ofstream(path("page.html")) << text;
  const tests::OpenedPage page = tests::open_page(browser, path("page.html"));
  EXPECT_THAT(page.console, IsEmpty());
  EXPECT_EQ(page.root_attribute("data-errors"), "0");
  EXPECT_EQ(page.root_attribute("data-zoomed"), "true");
  EXPECT_EQ(page.root_attribute("data-again"), "true");
  const json data = page_data();
  const std::string first = data["copies"]["f"][9].dump();
  EXPECT_THAT(page.root_attribute("data-copy"), HasSubstr("pages " + first + " to "));
  EXPECT_THAT(page.root_attribute("data-copy"), HasSubstr(" GB/s"));
  EXPECT_THAT(page.root_attribute("data-page"), HasSubstr("page " + first + ": "));
  const std::string group = data["groups"][0][0];
  EXPECT_THAT(page.root_attribute("data-layer"), HasSubstr(group));
  EXPECT_THAT(page.root_attribute("data-layer"), HasSubstr(" copied"));
  EXPECT_EQ(page.root_attribute("data-filtered"), "4");  // gate, up, down and their norm
  EXPECT_EQ(page.root_attribute("data-sorted"), "blk.3.ffn_down.weight");
}

// Models may be named anything.
TEST_F(ReportPage, NamesAreTextAndNothingElse) {
  const std::string browser = tests::find_browser();
  if (browser.empty()) GTEST_SKIP() << "there is no chromium in PATH";
  const std::string name = "</script><img id=\"evil\" src=x onerror=\"console.error(1)\">";
  json stats = read("stats");
  stats["model"]["name"] = name;
  write("stats", stats);
  json trace = read("trace");
  for (json& part : trace["tensor_pager"]["image"]["parts"]) part[0] = name;
  for (json& plan : trace["tensor_pager"]["plans"]) {
    for (json& step : plan["steps"]) step["name"] = name;
  }
  write("trace", trace);
  const ProcessResult run = write_page("stats", "trace");
  ASSERT_EQ(run.status, 0) << run.err;
  const tests::OpenedPage page = tests::open_page(browser, path("page.html"));
  EXPECT_THAT(page.console, IsEmpty());
  EXPECT_EQ(page.root_attribute("data-errors"), "0");
  EXPECT_EQ(page.root_attribute("data-ready"), "1");
  EXPECT_THAT(page.dom, testing::Not(HasSubstr("<img")));
  EXPECT_THAT(page.dom, HasSubstr("<h1 id=\"model\">&lt;/script&gt;&lt;img id=\"evil\""));
}

// Nothing in the page assumes that anything was generated, or stalled, or even copied again.
TEST_F(ReportPage, ABrowserShowsARunWithoutGeneration) {
  const std::string browser = tests::find_browser();
  if (browser.empty()) GTEST_SKIP() << "there is no chromium in PATH";
  const ProcessResult run = tests::run_process(
      QWEN_PREFILL, {"-q", "--device", "host", "-m", test_data("models/tiny-qwen2-q4_k_m.gguf"),
                     "-p", "In the beginning", "-n", "0", "--arena", "100%", "--no-pin-file",
                     "--stats", path("stats"), "--trace", path("trace")});
  ASSERT_EQ(run.status, 0) << run.err;
  ASSERT_EQ(write_page("stats", "trace").status, 0);
  const tests::OpenedPage page = tests::open_page(browser, path("page.html"));
  EXPECT_THAT(page.console, IsEmpty());
  EXPECT_EQ(page.root_attribute("data-errors"), "0");
  EXPECT_EQ(page.root_attribute("data-ready"), "1");
  EXPECT_EQ(page_data()["what_if"].size(), 1U);
}

class ReportErrors : public ReportPage {
 protected:
  static void expect(const std::vector<std::string>& arguments, int status, const char* says) {
    const ProcessResult run = tests::run_process(PAGER_STATS, arguments);
    EXPECT_EQ(run.status, status);
    EXPECT_THAT(run.err, HasSubstr(says));
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
  }
};

TEST_F(ReportErrors, FilesThatAreNoneAreOneLine) {
  expect({path("stats"), "--trace", path("nothing"), "--html", path("page")}, 1, "cannot open");
  expect({path("stats"), "--trace", path("stats"), "--html", path("page")}, 1,
         "not a trace of this program");
  expect({path("trace"), "--trace", path("trace"), "--html", path("page")}, 1, "no section");
  std::ofstream(path("short")) << read("trace").dump().substr(0, 10000);
  expect({path("stats"), "--trace", path("short"), "--html", path("page")}, 1, "was cut off");
  expect({path("stats"), "--trace", path("trace"), "--html", path("no/page")}, 1, "cannot write");
  EXPECT_FALSE(std::filesystem::exists(path("page")));
}

TEST_F(ReportErrors, AFullDiskIsNoticed) {
  expect({path("stats"), "--trace", path("trace"), "--html", "/dev/full"}, 1, "cannot write");
}

TEST_F(ReportErrors, FilesOfTwoRunsAreRefused) {
  run_model("60%", "other", "other-trace");
  expect({path("stats"), "--trace", path("other-trace"), "--html", path("page")}, 1,
         "not of the same run: the bytes copied are");
}

TEST_F(ReportErrors, OptionsThatDoNotGoTogetherAreWrongUsage) {
  expect({path("stats"), "--html", path("page")}, 2, "--trace");
  expect({path("stats"), "--trace", path("trace")}, 2, "--html");
  expect({path("stats"), "--trace", path("trace"), "--html", path("page"), "--json"}, 2,
         "--html excludes");
}

}  // namespace
}  // namespace tensor_pager::qwen
