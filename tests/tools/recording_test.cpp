// SPDX-License-Identifier: Apache-2.0
// Trace files as pager_stats reads them: what a Trace wrote comes back, and what it did not write
// is refused.
#include "report/recording.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "../temporary_directory.hpp"

namespace tensor_pager::pager_stats {
namespace {

using testing::HasSubstr;
using Time = Trace::Time;

constexpr Bytes kPage = KiB(4);

class RecordingTest : public testing::Test {
 protected:
  Recording read(const std::string& text) const {
    return read_recording(directory_.write("trace.json", text));
  }
  std::string error_of(const std::string& text) const {
    try {
      read(text);
    } catch (const TraceError& error) {
      return error.what();
    }
    return "no error";
  }

  // A plan of one step, which waited for the copy of its two pages.
  static std::string written() {
    Trace trace;
    const Time now = Trace::Clock::now();
    const auto at = [&](int us) { return now + std::chrono::microseconds(us); };
    const NamedRange part{"blk.0.weight", {Bytes{100}, kPage}};
    trace.describe({.layout = {kPage * 5, kPage}, .pages_per_copy = 8}, {&part, 1});
    trace.frames(at(0), 3);
    trace.plan_set(
        at(1), {.steps = {{.reads = {{kPage, kPage * 2}}, .name = "first"}}, .prefetch_depth = 7});
    trace.add({.track = Trace::Track::copies,
               .begin = at(10),
               .end = at(30),
               .name = "copy",
               .copy = 1,
               .pages = {{1}, 2},
               .bytes = kPage * 2});
    trace.arrived(at(31), {{1}, 2});
    trace.add({.track = Trace::Track::stalls,
               .begin = at(5),
               .end = at(31),
               .name = "first",
               .position = Trace::PlanPosition{0, StepIndex{0}}});
    trace.add({.track = Trace::Track::steps,
               .begin = at(31),
               .end = at(50),
               .name = "first",
               .position = Trace::PlanPosition{0, StepIndex{0}},
               .copies = {1}});
    trace.add({.track = Trace::Track::pager, .begin = at(6), .end = at(9), .name = "map"});
    const PageIndex gone[] = {{1}, {2}};
    trace.evicted(at(60), gone);
    std::ostringstream out;
    trace.write(out);
    return out.str();
  }

  static std::string changed(const std::string& from, const std::string& to) {
    std::string text = written();
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(RecordingTest, HasWhatWasTraced) {
  const Recording recording = read(written());
  EXPECT_EQ(recording.layout.image, kPage * 5);
  EXPECT_EQ(recording.layout.page, kPage);
  EXPECT_EQ(recording.pages_per_copy, 8U);
  ASSERT_EQ(recording.parts.size(), 1U);
  EXPECT_EQ(recording.parts[0].name, "blk.0.weight");
  EXPECT_EQ(recording.parts[0].bytes, (ByteRange{Bytes{100}, kPage}));
  ASSERT_EQ(recording.plans.size(), 1U);
  EXPECT_EQ(recording.plans[0].plan.steps.at(0).name, "first");
  EXPECT_EQ(recording.plans[0].plan.steps.at(0).reads.at(0), (ByteRange{kPage, kPage * 2}));
  EXPECT_EQ(recording.plans[0].plan.prefetch_depth, 7U);
  EXPECT_EQ(recording.frames_at(recording.end()), 3U);
  ASSERT_EQ(recording.copies.size(), 1U);
  EXPECT_EQ(recording.copies[0].pages, (PageRun{{1}, 2}));
  EXPECT_EQ(recording.copies[0].bytes, kPage * 2);
  EXPECT_NEAR(recording.copies[0].end - recording.copies[0].begin, 20e-6, 1e-9);
  ASSERT_EQ(recording.steps.size(), 1U);
  EXPECT_EQ(recording.steps[0].position->step, StepIndex{0});
  EXPECT_EQ(recording.steps[0].stream, recording.stalls.at(0).stream);
  EXPECT_NEAR(recording.mapping, 3e-6, 1e-9);
  ASSERT_EQ(recording.changes.size(), 2U);
  EXPECT_TRUE(recording.changes[0].arrived);
  EXPECT_EQ(recording.changes[1].pages, (PageRun{{1}, 2}));
  EXPECT_NEAR(recording.end(), recording.changes[1].at, 1e-12);
}

TEST_F(RecordingTest, OtherFilesAreRefused) {
  EXPECT_THAT(error_of("GGUF"), HasSubstr("trace.json is not a trace file, or was cut off"));
  EXPECT_THAT(error_of(written().substr(0, 500)), HasSubstr("was cut off"));
  EXPECT_THAT(error_of("[]"), HasSubstr("not a trace of this program"));
  EXPECT_THAT(error_of(R"({"traceEvents":[]})"), HasSubstr("of a version that did not say"));
  EXPECT_THROW(read_recording(directory_ / "nothing"), TraceError);
}

// What is read is used as an index, or for the size of a table.
TEST_F(RecordingTest, NumbersBeyondWhatThereIsAreRefused) {
  EXPECT_THAT(error_of(changed("\"version\":1", "\"version\":9")), HasSubstr("the version"));
  EXPECT_THAT(error_of(changed("\"page_bytes\":4096", "\"page_bytes\":0")), HasSubstr("no bytes"));
  EXPECT_THAT(error_of(changed("\"bytes\":20480", "\"bytes\":1000000000000000000")),
              HasSubstr("more than"));
  EXPECT_THAT(error_of(changed("100,4096]", "100,40960]")), HasSubstr("part of the image"));
  EXPECT_THAT(error_of(changed("\"first\":1,\"pages\":2", "\"first\":1,\"pages\":5")),
              HasSubstr("count of pages"));
  EXPECT_THAT(error_of(changed("\"plan\":0", "\"plan\":1")), HasSubstr("no plan 1"));
  EXPECT_THAT(error_of(changed("\"step\":0", "\"step\":-1")), HasSubstr("a step"));
  EXPECT_THAT(error_of(changed("\"step\":0", "\"step\":7")), HasSubstr("no step 7"));
  EXPECT_THAT(error_of(changed("\"dur\":", "\"dur\":-")), HasSubstr("ends before"));
  EXPECT_THAT(error_of(changed("\"image\":", "\"picture\":")), HasSubstr("'image'"));
}

}  // namespace
}  // namespace tensor_pager::pager_stats
