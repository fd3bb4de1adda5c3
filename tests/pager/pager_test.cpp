// SPDX-License-Identifier: Apache-2.0
// The pager with real threads, real remapping and a host stream that runs asynchronously.
#include "pager/pager.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "pager/host_device.hpp"
#include "pager/memory_store.hpp"
#include "word_store.hpp"

namespace tensor_pager::testing {
namespace {

constexpr Bytes kPage = kWordPage;

class PagerTest : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kPages = 16;

  std::unique_ptr<Pager> make(std::uint32_t frames, PolicyOptions policy = {},
                              HostDeviceOptions device = {}) {
    return std::make_unique<Pager>(
        make_host_device(device), store_,
        PagerOptions{.arena = kPage * frames, .page = kPage, .policy = policy});
  }

  std::shared_ptr<WordStore> store_ = std::make_shared<WordStore>(kPages);
};

TEST_F(PagerTest, EveryStepFindsItsPageInAnArenaOfTwo) {
  const auto pager = make(2, {.window = kWholePass, .prefetch_depth = 1});
  pager->set_plan(cycle(kPages));
  for (int pass = 0; pass < 3; ++pass) {
    for (std::uint32_t step = 0; step < kPages; ++step) {
      const Lease lease = pager->acquire(StepIndex{step});
      ASSERT_TRUE(WordStore::correct(pager->address(kPage * step), step));
    }
  }
}

TEST_F(PagerTest, BytesAreCountedWhereTheyAreMoved) {
  const auto pager = make(5, {.window = kWholePass, .prefetch_depth = 2});
  pager->set_plan(cycle(kPages));
  for (int pass = 0; pass < 4; ++pass) {
    for (std::uint32_t step = 0; step < kPages; ++step) pager->acquire(StepIndex{step});
  }
  pager->settle();
  const Statistics statistics = pager->statistics();
  EXPECT_EQ(statistics.link.copied, statistics.core.loaded);
  EXPECT_EQ(statistics.core.loads, statistics.core.evictions + statistics.resident_pages);
  EXPECT_EQ(statistics.link.copied, Bytes{store_->bytes_read});
  EXPECT_EQ(statistics.core.loaded, kPage * statistics.core.loads);
  EXPECT_EQ(statistics.core.accesses, 4U * kPages);
  EXPECT_EQ(statistics.core.accesses,
            statistics.core.hits + statistics.core.prefetched + statistics.core.late);
  EXPECT_LE(statistics.core.optimal_loads, statistics.core.loads);
  EXPECT_LE(statistics.resident_pages, statistics.frames);
  EXPECT_LE(statistics.peak_frames * kPage.count, statistics.arena.count);
  EXPECT_EQ(statistics.memory.peak, kPage * 5);
}

TEST_F(PagerTest, WorkInAStreamFindsItsPagesWhileTheCallerRunsAhead) {
  const auto pager = make(4, {.window = kWholePass, .prefetch_depth = 2},
                          {.link_bytes_per_second = 0,
                           .link_latency = std::chrono::microseconds(100),
                           .trace = nullptr});
  pager->set_plan(cycle(kPages));
  std::atomic<int> correct = 0;
  {
    HostStream stream;
    for (int pass = 0; pass < 4; ++pass) {
      for (std::uint32_t step = 0; step < kPages; ++step) {
        const Lease lease = pager->acquire(StepIndex{step}, {}, stream.ref());
        stream.launch([&, step] {
          correct += WordStore::correct(pager->address(kPage * step), step) ? 1 : 0;
        });
      }
    }
    stream.synchronize();
  }
  EXPECT_EQ(correct, 4 * static_cast<int>(kPages));
}

TEST_F(PagerTest, ManyThreadsShareAnArena) {
  const auto pager = make(6);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 200; ++i) {
        const std::uint32_t page = static_cast<std::uint32_t>(random() % kPages);
        const ByteRange range = page_range(page);
        const Lease lease = pager->acquire(std::span(&range, 1));
        wrong += WordStore::correct(pager->address(range.offset), page) ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(PagerTest, SeveralStreamsWalkOnePlan) {
  const auto pager = make(6, {.window = kWholePass, .prefetch_depth = 2});
  pager->set_plan(cycle(kPages));
  std::atomic<int> wrong = 0;
  {
    std::vector<HostStream> streams(3);
    for (std::uint32_t i = 0; i < 6 * kPages; ++i) {
      HostStream& stream = streams[i % streams.size()];
      const std::uint32_t step = i % kPages;
      const Lease lease = pager->acquire(StepIndex{step}, {}, stream.ref());
      stream.launch(
          [&, step] { wrong += WordStore::correct(pager->address(kPage * step), step) ? 0 : 1; });
    }
  }
  EXPECT_EQ(wrong, 0);
}

TEST_F(PagerTest, FailedReadReachesTheCallerAndTheNextPassSucceeds) {
  const auto pager = make(3, {.window = kWholePass, .prefetch_depth = 1});
  pager->set_plan(cycle(kPages));
  store_->bad_page = 5;
  for (std::uint32_t step = 0; step < 5; ++step) pager->acquire(StepIndex{step});
  EXPECT_THAT(
      [&] { pager->acquire(StepIndex{5}); },
      ::testing::ThrowsMessage<StoreError>(::testing::HasSubstr("page 5 is on a bad sector")));
  store_->bad_page = 0xffffffff;
  const Lease lease = pager->acquire(StepIndex{5});
  EXPECT_TRUE(WordStore::correct(pager->address(kPage * 5), 5));
}

TEST_F(PagerTest, ArenaShrinksAndGrowsWhileInUse) {
  const auto pager = make(8, {.window = kWholePass, .prefetch_depth = 2});
  pager->set_plan(cycle(kPages));
  for (const std::uint32_t frames : {8U, 2U, 5U, 1U, 16U}) {
    pager->set_arena(kPage * frames);
    EXPECT_EQ(pager->device().memory().current, kPage * frames);
    for (std::uint32_t step = 0; step < kPages; ++step) {
      const Lease lease = pager->acquire(StepIndex{step});
      ASSERT_TRUE(WordStore::correct(pager->address(kPage * step), step));
    }
  }
}

TEST_F(PagerTest, EvictingAllCopiesEverythingAgainAndHeldPagesStay) {
  const auto pager = make(kPages, {.window = kWholePass, .prefetch_depth = 2});
  pager->set_plan(cycle(kPages));
  const auto pass = [&] {
    for (std::uint32_t step = 0; step < kPages; ++step) {
      const Lease lease = pager->acquire(StepIndex{step});
      ASSERT_TRUE(WordStore::correct(pager->address(kPage * step), step));
    }
  };
  pass();
  EXPECT_EQ(pager->statistics().core.loads, kPages);
  {
    const Lease held = pager->acquire(StepIndex{0});
    pager->evict_all();
    EXPECT_TRUE(WordStore::correct(pager->address(Bytes{0}), 0));
  }
  pass();
  pager->settle();
  const Statistics statistics = pager->statistics();
  EXPECT_EQ(statistics.core.loads, 2U * kPages - 1);
  EXPECT_EQ(statistics.core.evictions, kPages - 1U);
  EXPECT_EQ(statistics.link.copied, statistics.core.loaded);
}

Lease take(Pager& pager, std::uint32_t first, std::uint32_t count = 1, StreamRef stream = {}) {
  const ByteRange range{kPage * first, kPage * count};
  return pager.acquire({&range, 1}, stream);
}

// Of two pagers and two streams, one of which is not done yet, and some that have ended before.
TEST_F(PagerTest, LeasesThatEndTogetherEndEachInItsOwnStream) {
  const auto pager = make(8);
  const auto other = make(2);
  HostStream waiting;
  std::atomic<bool> go = false;
  std::vector<Lease> leases;
  leases.push_back(take(*pager, 0));
  leases.push_back(take(*pager, 1));
  leases.emplace_back();
  leases.push_back(take(*pager, 2, 1, waiting.ref()));
  leases.push_back(take(*pager, 3, 1, waiting.ref()));
  leases.push_back(take(*other, 4));
  leases.push_back(take(*pager, 1));
  leases.front().release();
  std::atomic<int> correct = 0;
  waiting.launch([&] {
    while (!go) std::this_thread::yield();
    for (const std::uint32_t page : {2U, 3U}) {
      correct += WordStore::correct(pager->address(kPage * page), page) ? 1 : 0;
    }
  });
  Lease::release(leases);
  // Four frames are free; the fifth is that of the page whose use is longest ago.
  {
    const Lease lease = take(*pager, 5, 5);
    EXPECT_TRUE(WordStore::correct(pager->address(kPage * 9), 9));
  }
  other->evict_all();
  EXPECT_EQ(other->statistics().resident_pages, 0U);
  go = true;
  pager->evict_all();
  waiting.synchronize();
  EXPECT_EQ(pager->statistics().resident_pages, 0U);
  EXPECT_EQ(correct, 2);
  Lease::release(leases);  // nothing is left to end
  leases.clear();
}

// Each has times of its own in a trace, on tracks 10, 1010 and 2010.
TEST_F(PagerTest, LeasesThatEndTogetherAreTracedOneByOne) {
  Trace trace;
  Pager pager(make_host_device({}), store_, {.arena = kPage * 4, .page = kPage, .trace = &trace});
  HostStream stream;
  std::vector<Lease> leases;
  for (std::uint32_t page = 0; page < 3; ++page) {
    leases.push_back(take(pager, page, 1, stream.ref()));
  }
  Lease::release(leases);
  stream.synchronize();
  pager.settle();
  std::ostringstream out;
  trace.write(out);
  const std::string text = out.str();
  std::size_t spans = 0;
  for (std::size_t at = 0; (at = text.find("10,\"name\":\"ranges\"", at)) != std::string::npos;
       ++at) {
    ++spans;
  }
  EXPECT_EQ(spans, 3U) << text;
}

TEST_F(PagerTest, NothingIsBroughtInBetweenEvictingAllAndTheNextAcquire) {
  const auto pager = make(kPages, {.window = kWholePass, .prefetch_depth = 2});
  pager->set_plan(cycle(kPages));
  for (std::uint32_t step = 0; step < kPages; ++step) pager->acquire(StepIndex{step}).release();
  pager->evict_all();
  pager->settle();
  EXPECT_EQ(pager->statistics().resident_pages, 0U);
  EXPECT_EQ(pager->statistics().core.loads, kPages);

  pager->acquire(StepIndex{0}).release();
  pager->settle();
  EXPECT_EQ(pager->statistics().core.loads, kPages + 3U);  // the step's, and two ahead
}

// Every page of the plan has its frame: what changes in a pass, cold or warm, is the content.
TEST_F(PagerTest, PassThatRepeatsMakesNoCallForItsMappings) {
  constexpr std::uint32_t kMany = 240;
  store_ = std::make_shared<WordStore>(kMany);
  for (const std::uint32_t percent : {5U, 25U, 50U}) {
    const auto pager = make(kMany * percent / 100);
    AccessPlan plan;
    for (std::uint32_t first = 0; first < kMany; first += 3)
      plan.steps.push_back({.reads = {{kPage * first, kPage * 3}}});
    pager->set_plan(plan);
    pager->settle();
    const std::uint64_t before = pager->statistics().core.remaps;
    for (int pass = 0; pass < 4; ++pass) {
      if (pass % 2 == 0) pager->evict_all();
      for (std::uint32_t step = 0; step < kMany / 3; ++step) {
        const Lease lease = pager->acquire(StepIndex{step});
        ASSERT_TRUE(WordStore::correct(pager->address(kPage * step * 3), step * 3));
      }
    }
    EXPECT_EQ(pager->statistics().core.remaps, before) << percent << "% resident";
  }
}

TEST_F(PagerTest, SeveralThreadsThatWalkOnePlanCopyAboutWhatTheyWouldWithoutIt) {
  constexpr std::uint32_t kMany = 64;
  store_ = std::make_shared<WordStore>(kMany);
  const auto loads = [&](bool planned) {
    const auto pager = make(kMany / 4);
    if (planned) pager->set_plan(cycle(kMany));
    std::vector<std::thread> threads;
    std::atomic<std::uint32_t> wrong = 0;
    std::atomic<std::uint32_t> arrived = 0;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        for (std::uint32_t i = 0; i < 4 * kMany; ++i) {
          const std::uint32_t page = i % kMany;
          const ByteRange range = page_range(page);
          {
            const Lease lease =
                planned ? pager->acquire(StepIndex{page}) : pager->acquire(std::span(&range, 1));
            wrong += WordStore::correct(pager->address(range.offset), page) ? 0U : 1U;
          }
          // Side by side, so that runs can be compared.
          ++arrived;
          while (arrived < 3 * (i + 1)) std::this_thread::yield();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0U);
    return pager->statistics().core.loads;
  };
  const std::uint64_t without = loads(false);
  EXPECT_LE(loads(true), without + kMany / 4);  // what was planned before the second one came
}

TEST_F(PagerTest, PinnedPagesStayAndLeaveRoomForThePlan) {
  const auto pager = make(5, {.window = kWholePass, .prefetch_depth = 1});
  pager->set_plan(cycle(kPages - 1));
  const ByteRange hot = page_range(kPages - 1);
  const Lease pin = pager->pin(std::span(&hot, 1));
  for (std::uint32_t step = 0; step < kPages - 1; ++step) {
    const Lease lease = pager->acquire(StepIndex{step});
    ASSERT_TRUE(WordStore::correct(pager->address(hot.offset), kPages - 1));
  }
  const ByteRange most{Bytes{0}, kPage * 4};
  EXPECT_THAT([&] { pager->pin(std::span(&most, 1)); },
              ::testing::ThrowsMessage<BudgetError>(::testing::HasSubstr("at least 24576 bytes")));
}

TEST_F(PagerTest, PrefetchedPagesAreThereWhenTheyAreAcquired) {
  const auto pager = make(4);
  const ByteRange range = page_range(7);
  pager->prefetch(std::span(&range, 1));
  pager->settle();
  EXPECT_TRUE(pager->try_acquire(std::span(&range, 1)).has_value());
  EXPECT_EQ(pager->statistics().core.loads, 1U);
}

TEST_F(PagerTest, BudgetThatIsTooSmallNamesTheMinimumAndTheMinimumWorks) {
  AccessPlan plan = cycle(kPages);
  plan.steps.push_back({.reads = {{Bytes{0}, kPage * 7}}});
  Bytes minimum;
  try {
    make(3)->set_plan(plan);
    FAIL();
  } catch (const BudgetError& error) {
    minimum = error.minimum();
  }
  EXPECT_EQ(minimum, minimum_arena({kPage * kPages, kPage}, plan));
  const auto pager = make(static_cast<std::uint32_t>(minimum / kPage));
  pager->set_plan(plan);
  for (std::uint32_t step = 0; step <= kPages; ++step) pager->acquire(StepIndex{step});
  EXPECT_THROW(make(0), BudgetError);
}

TEST_F(PagerTest, HoldingMoreThanTheArenaIsAnErrorNotAHang) {
  const auto pager = make(1);
  const ByteRange first = page_range(0);
  const ByteRange second = page_range(1);
  const Lease lease = pager->acquire(std::span(&first, 1));
  EXPECT_THROW(pager->acquire(std::span(&second, 1)), BudgetError);
}

TEST_F(PagerTest, PageSizeMustSuitTheDevice) {
  EXPECT_THROW(Pager(make_host_device(), store_, {.arena = MiB(1), .page = Bytes{1000}}), Error);
}

// All of it in the child: pages are not inherited by one.
TEST_F(PagerTest, EvictedPageFaultsInDebugMode) {
  const auto read = [&](std::uint32_t read_page) {
    Pager pager(make_host_device(), store_,
                {.arena = kPage, .page = kPage, .unmap_on_evict = true});
    for (const std::uint32_t page : {0U, 1U}) {
      const ByteRange range = page_range(page);
      pager.acquire(std::span(&range, 1));
    }
    const volatile std::byte value = *pager.address(kPage * read_page);
    (void)value;
    std::exit(7);
  };
  EXPECT_EXIT(read(1), ::testing::ExitedWithCode(7), "");
  EXPECT_DEATH(read(0), "");
}

TEST_F(PagerTest, StepsAndStallsAreTraced) {
  Trace trace;
  Pager pager(make_host_device({.link_bytes_per_second = 0,
                                .link_latency = std::chrono::milliseconds(2),
                                .trace = &trace}),
              store_,
              {.arena = kPage * 2, .page = kPage, .policy = {.window = 0}, .trace = &trace});
  pager.set_plan(cycle(4));
  for (std::uint32_t step = 0; step < 4; ++step) pager.acquire(StepIndex{step});
  std::ostringstream out;
  trace.write(out);
  for (const char* expected :
       {"\"tid\":10,\"name\":\"step 3\"", "\"tid\":11,\"name\":\"step 3\"", "pages 3 to 3"}) {
    EXPECT_NE(out.str().find(expected), std::string::npos) << expected << " is missing in\n"
                                                           << out.str();
  }
  EXPECT_GE(pager.statistics().stalled, std::chrono::milliseconds(8));
}

}  // namespace
}  // namespace tensor_pager::testing
