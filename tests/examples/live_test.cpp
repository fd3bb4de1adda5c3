// SPDX-License-Identifier: Apache-2.0
// pager_stats --pid over pagers of this process, which stand still, and over programs that run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "child_process.hpp"
#include "model_run.hpp"
#include "pager/host_device.hpp"
#include "pager/memory_store.hpp"
#include "pager/pager.hpp"

namespace tensor_pager::tests {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr Bytes kPage = KiB(4);
constexpr std::uint32_t kPages = 40;

ProcessResult stats(std::vector<std::string> arguments) {
  return run_process(PAGER_STATS, arguments);
}

std::string own_pid() {
  return std::to_string(::getpid());
}

class LivePager : public testing::Test {
 protected:
  LivePager() {
    AccessPlan plan;
    for (std::uint32_t i = 0; i < kPages; ++i) {
      plan.steps.push_back({.reads = {{kPage * i, kPage}}});
    }
    plan.name = "forty steps and more";  // cut
    plan.work = 80;
    plan.unit = "tokens";
    pager_.set_plan(plan);
    for (int pass = 0; pass < 2; ++pass) {
      for (std::uint32_t i = 0; i < kPages; ++i) pager_.acquire(StepIndex{i});
    }
    pager_.settle();
  }

  const std::vector<std::byte> image_ = std::vector<std::byte>(kPage.count * kPages);
  // The parts meet in the middle of a page.
  const Bytes middle_{kPage.count * 10 + kPage.count / 4};
  Pager pager_{make_host_device(),
               std::make_shared<MemoryStore>(image_),
               {.arena = kPage * 12,
                .page = kPage,
                .names = {{"begin", {{}, middle_}},
                          {"end\x1b[2J", {middle_, Bytes{image_.size()} - middle_}}},
                .title = "forty pages"}};
};

TEST_F(LivePager, JsonHasItsCounters) {
  const ProcessResult run = stats({"--pid", own_pid(), "--json", "--tensors"});
  ASSERT_EQ(run.status, 0) << run.err;
  const json shown = json::parse(run.out);
  EXPECT_EQ(shown["pid"], ::getpid());
  ASSERT_EQ(shown["pagers"].size(), 1U);
  const json& pager = shown["pagers"][0];
  const Statistics own = pager_.statistics();
  EXPECT_EQ(pager["model"]["name"], "forty pages");
  EXPECT_EQ(pager["arena"]["frames"], 12);
  EXPECT_EQ(pager["pages"]["resident"], own.resident_pages);
  EXPECT_EQ(pager["pages"]["hits"], own.core.hits);
  EXPECT_EQ(pager["pages"]["misses"], own.core.prefetched + own.core.late);
  EXPECT_EQ(pager["pages"]["evictions"], own.core.evictions);
  EXPECT_EQ(pager["bytes"]["h2d"], own.link.copied.count);
  EXPECT_EQ(pager["plan"]["steps"], kPages);
  EXPECT_EQ(pager["plan"]["step"], kPages - 1);
  EXPECT_EQ(pager["plan"]["name"], "forty steps and");
  EXPECT_EQ(pager["plan"]["passes"], 2);
  EXPECT_EQ(pager["plan"]["work"], 80);
  EXPECT_EQ(pager["plan"]["unit"], "tokens");
}

TEST_F(LivePager, TensorsShareWhatIsResidentAndCopied) {
  const ProcessResult run = stats({"--pid", own_pid(), "--json", "--tensors", "--sort", "copied"});
  ASSERT_EQ(run.status, 0) << run.err;
  const json tensors = json::parse(run.out)["pagers"][0]["tensors"];
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_EQ(tensors[0]["name"], "end\x1b[2J");  // the larger part is copied more
  const auto sum = [&](const char* field) {
    return tensors[0][field].get<std::uint64_t>() + tensors[1][field].get<std::uint64_t>();
  };
  const Statistics own = pager_.statistics();
  EXPECT_EQ(sum("bytes"), image_.size());
  EXPECT_EQ(sum("resident_bytes"), (kPage * own.resident_pages).count);
  EXPECT_EQ(sum("copied_bytes"), own.link.copied.count);
}

TEST_F(LivePager, TableShowsTheResidentMap) {
  const ProcessResult run = stats({"--pid", own_pid(), "--tensors"});
  ASSERT_EQ(run.status, 0) << run.err;
  const std::size_t map = run.out.find("\nresident  ");
  ASSERT_NE(map, std::string::npos);
  const std::string cells = run.out.substr(map + 11, run.out.find('\n', map + 1) - map - 11);
  EXPECT_EQ(cells.size(), kPages) << cells;  // one for each page
  EXPECT_EQ(static_cast<std::uint32_t>(std::ranges::count(cells, '#')),
            pager_.statistics().resident_pages);
  EXPECT_THAT(run.out, HasSubstr("end?[2J"));  // names are data, not commands to the terminal
  EXPECT_THAT(run.out, HasSubstr("step      40 of 40"));
  EXPECT_THAT(
      run.out,
      HasSubstr("phase     forty steps and, now 0.0 tokens/s; pass 2, of 80 tokens each\n"));
}

TEST_F(LivePager, PrometheusTellsTwoPagersApart) {
  const Pager second(make_host_device(), std::make_shared<MemoryStore>(image_),
                     {.arena = kPage * 3, .page = kPage, .title = "another"});
  const ProcessResult run = stats({"--pid", own_pid(), "--prometheus"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("# HELP tensor_pager_arena_frames Pages that the arena holds.\n"
                                 "# TYPE tensor_pager_arena_frames gauge\n"
                                 "tensor_pager_arena_frames{model=\"forty pages\",device=\"host "
                                 "memory\",pager=\"0\"} 12\n"
                                 "tensor_pager_arena_frames{model=\"another\",device=\"host "
                                 "memory\",pager=\"1\"} 3\n"));
}

TEST_F(LivePager, WatchPrintsAgainAndAgain) {
  ChildProcess watch(PAGER_STATS, {"--pid", own_pid(), "--watch", "--interval", "0.02", "--json"});
  const auto lines = [&] { return std::ranges::count(watch.out(), '\n'); };
  for (int i = 0; i < 500 && lines() < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  watch.kill(SIGINT);
  const ProcessResult run = watch.wait();
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_GE(std::ranges::count(run.out, '\n'), 5);
  EXPECT_EQ(run.out.find('\x1b'), std::string::npos);
  EXPECT_EQ(json::parse(run.out.substr(0, run.out.find('\n')))["pagers"].size(), 1U);
}

// A run that takes seconds.
class LiveRun : public testing::Test {
 protected:
  static std::vector<std::string> arguments(const std::string& option = "-q") {
    return {"-q",           option,
            "--device",     "host",
            "-m",           qwen::test_data("models/tiny-qwen2-q4_k_m.gguf"),
            "-f",           qwen::test_data("models/heldout.txt"),
            "--perplexity", "--arena",
            "30%"};
  }

  // Looks until there is something to see.
  static ProcessResult look(pid_t pid) {
    ProcessResult run;
    for (int i = 0; i < 200; ++i) {
      run = stats({"--pid", std::to_string(pid), "--json"});
      if (run.status == 0 && json::parse(run.out)["pagers"][0]["pages"]["hits"] > 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return run;
  }
};

TEST_F(LiveRun, IsSeen) {
  const ChildProcess model(QWEN_PREFILL, arguments());
  const ProcessResult run = look(model.pid());
  ASSERT_EQ(run.status, 0) << run.err;
  const json pager = json::parse(run.out)["pagers"][0];
  EXPECT_EQ(pager["model"]["name"], "tiny-qwen2-kjv");
  EXPECT_EQ(pager["model"]["tensors"], 74);
  EXPECT_LE(pager["pages"]["resident"], pager["arena"]["frames"]);
}

// In place: each look goes back over the one before, no line is wider than the terminal, and the
// cursor is there again in the end.
TEST_F(LiveRun, IsWatchedInPlaceOnATerminal) {
  const ChildProcess model(QWEN_PREFILL, arguments());
  ASSERT_EQ(look(model.pid()).status, 0);
  constexpr unsigned short kColumns = 60;
  const TerminalResult run = run_on_terminal(
      PAGER_STATS, {"--pid", std::to_string(model.pid()), "--watch", "--interval", "0.1"},
      {.columns = kColumns});
  EXPECT_EQ(run.status, 0);
  EXPECT_TRUE(run.written.starts_with("\x1b[?25l")) << run.written.substr(0, 20);
  EXPECT_THAT(run.written, HasSubstr("\x1b[10Aprocess"));  // a look has ten lines
  EXPECT_THAT(run.written, HasSubstr("has ended"));
  EXPECT_THAT(run.written, HasSubstr("\x1b[?25h"));
  std::istringstream lines(run.written);
  std::size_t widest = 0;
  for (std::string line; std::getline(lines, line);) {
    for (const char* code : {"\x1b[?25l", "\x1b[J", "\x1b[9A"}) {
      if (line.starts_with(code)) line.erase(0, std::string_view(code).size());
    }
    widest = std::max(widest, std::min(line.find("\x1b[K"), line.size()));
  }
  EXPECT_EQ(widest, kColumns);  // the lines of pages and link are longer
}

TEST_F(LiveRun, ShowsItsPhaseAndItsRate) {
  const ChildProcess model(QWEN_PREFILL, arguments());
  ASSERT_EQ(look(model.pid()).status, 0);
  const ProcessResult run = stats({"--pid", std::to_string(model.pid())});
  EXPECT_THAT(run.out,
              testing::ContainsRegex(
                  "\nphase     prefill, now [0-9.]+ tokens/s; pass [0-9]+, of 512 tokens each\n"
                  "step      [0-9]+ of [0-9]+\n"));
}

TEST_F(LiveRun, ThatIsKilledEndsTheWatchAndLeavesNothing) {
  ChildProcess model(QWEN_PREFILL, arguments());
  ASSERT_EQ(look(model.pid()).status, 0);
  ChildProcess watch(PAGER_STATS,
                     {"--pid", std::to_string(model.pid()), "--watch", "--interval", "0.02"});
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const pid_t pid = model.pid();
  model.kill(SIGKILL);
  model.wait();
  const ProcessResult seen = watch.wait();
  // Killed in the middle of writing, which takes nanoseconds, it would say so.
  EXPECT_TRUE(seen.status == 0 || seen.err.find("while it was writing") != std::string::npos)
      << seen.err;
  if (seen.status == 0) {
    EXPECT_THAT(seen.out, HasSubstr("has ended"));
  }
  EXPECT_THAT(stats({"--pid", std::to_string(pid)}).err, HasSubstr("there is no process"));

  const ChildProcess next(QWEN_PREFILL, arguments());
  EXPECT_EQ(look(next.pid()).status, 0);
}

TEST_F(LiveRun, DoesNotNoticeThatAWatcherIsKilled) {
  const ChildProcess model(QWEN_PREFILL, arguments());
  ASSERT_EQ(look(model.pid()).status, 0);
  ChildProcess watch(PAGER_STATS,
                     {"--pid", std::to_string(model.pid()), "--watch", "--interval", "0.02"});
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  watch.kill(SIGKILL);
  EXPECT_EQ(watch.wait().status, 128 + SIGKILL);
  EXPECT_EQ(look(model.pid()).status, 0);
}

TEST_F(LiveRun, CanBeHidden) {
  const ChildProcess model(QWEN_PREFILL, arguments("--no-publish"));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const ProcessResult run = stats({"--pid", std::to_string(model.pid())});
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.err, HasSubstr("switched off"));
  EXPECT_EQ(std::ranges::count(run.err, '\n'), 1);
}

}  // namespace
}  // namespace tensor_pager::tests
