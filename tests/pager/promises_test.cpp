// SPDX-License-Identifier: Apache-2.0
// What holds when something fails or is used unusually, with real threads: each was once broken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "pager/host_device.hpp"
#include "pager/pager.hpp"
#include "word_store.hpp"

namespace tensor_pager::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr Bytes kPage = kWordPage;
constexpr std::uint32_t kNoPage = 0xffffffff;

HostDeviceOptions slow_link(std::chrono::milliseconds latency) {
  return {.link_bytes_per_second = 0, .link_latency = latency, .trace = nullptr};
}

class PromisesTest : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kPages = 16;

  std::unique_ptr<Pager> make(std::uint32_t frames, const HostDeviceOptions& device = {},
                              PolicyOptions policy = {}) {
    return std::make_unique<Pager>(
        make_host_device(device), store_,
        PagerOptions{.arena = kPage * frames, .page = kPage, .policy = policy});
  }
  static Lease acquire(Pager& pager, std::uint32_t page, StreamRef stream = {}) {
    const ByteRange range = page_range(page);
    return pager.acquire(std::span(&range, 1), stream);
  }

  std::shared_ptr<WordStore> store_ = std::make_shared<WordStore>(kPages);
};

/// Runs `call` on a thread of its own; a call that does not end is a failure and not a hang.
template <class Call>
bool ends(Call call) {
  auto done = std::make_shared<std::promise<void>>();
  std::future<void> future = done->get_future();
  std::thread([done, call = std::move(call)]() mutable {
    call();
    done->set_value();
  }).detach();
  return future.wait_for(20s) == std::future_status::ready;
}

// ---- 1: a failed copy is reported although its lease has ended

class FailedCopy : public PromisesTest {
 protected:
  /// Work in the stream reads a page that cannot be brought in, under a lease that ends before
  /// that is known.
  void let_work_read_garbage(HostStream& stream) {
    store_->bad_page = 2;
    acquire(*pager_, 2, stream.ref()).release();
    stream.synchronize();
    store_->bad_page = kNoPage;
  }
  std::unique_ptr<Pager> pager_ = make(3, slow_link(30ms));
};

TEST_F(FailedCopy, IsReportedByCheckOnce) {
  HostStream stream;
  let_work_read_garbage(stream);
  EXPECT_THAT([&] { pager_->check(stream.ref()); },
              ThrowsMessage<StoreError>(HasSubstr("page 2 is on a bad sector")));
  EXPECT_NO_THROW(pager_->check(stream.ref()));
  EXPECT_NO_THROW(pager_->settle());
}

TEST_F(FailedCopy, IsReportedBySettleOnce) {
  HostStream stream;
  let_work_read_garbage(stream);
  EXPECT_THROW(pager_->settle(), StoreError);
  EXPECT_NO_THROW(pager_->settle());
}

TEST_F(FailedCopy, IsReportedByTheNextAcquireInItsStreamAndNoOther) {
  HostStream stream;
  HostStream other;
  let_work_read_garbage(stream);
  EXPECT_NO_THROW(acquire(*pager_, 3, other.ref()));
  other.synchronize();
  while (pager_->statistics().core.failed_loads == 0) std::this_thread::yield();
  EXPECT_THROW(acquire(*pager_, 3, stream.ref()), StoreError);
  EXPECT_NO_THROW(acquire(*pager_, 3, stream.ref()));
}

TEST_F(FailedCopy, CheckWaitsForCopiesThatAreUnderWay) {
  HostStream stream;
  store_->bad_page = 2;
  acquire(*pager_, 2, stream.ref()).release();
  EXPECT_THROW(pager_->check(stream.ref()), StoreError);  // nobody synchronised
}

TEST_F(FailedCopy, IsReportedToEachStreamThatReadThePage) {
  HostStream first;
  HostStream second;
  store_->bad_page = 2;
  acquire(*pager_, 2, first.ref()).release();
  acquire(*pager_, 2, second.ref()).release();
  EXPECT_THROW(pager_->check(first.ref()), StoreError);
  EXPECT_THROW(pager_->check(second.ref()), StoreError);
}

TEST_F(FailedCopy, SaysHowManyThereWere) {
  HostStream stream;
  store_->bad_page = 2;
  acquire(*pager_, 2, stream.ref()).release();
  acquire(*pager_, 2, stream.ref()).release();
  EXPECT_THAT([&] { pager_->check(stream.ref()); },
              ThrowsMessage<StoreError>(HasSubstr("1 further copies")));
}

// ---- 2: destruction waits for queued work

TEST_F(PromisesTest, DestructionWaitsForWorkWhoseLeaseHasEnded) {
  auto pager = make(3);
  HostStream stream;
  std::atomic<bool> correct = false;
  const std::byte* const address = pager->address(kPage * 5);
  {
    const Lease lease = acquire(*pager, 5, stream.ref());
    stream.launch([&] {
      std::this_thread::sleep_for(100ms);
      correct = WordStore::correct(address, 5);
    });
  }
  pager.reset();
  EXPECT_TRUE(correct);
}

TEST_F(PromisesTest, DestructionWaitsForWorkWhoseLeaseIsHeldAndTheLeaseIsVoid) {
  auto pager = make(3);
  HostStream stream;
  std::atomic<bool> correct = false;
  const std::byte* const address = pager->address(kPage * 5);
  Lease lease = acquire(*pager, 5, stream.ref());
  stream.launch([&] {
    std::this_thread::sleep_for(100ms);
    correct = WordStore::correct(address, 5);
  });
  pager.reset();
  EXPECT_TRUE(correct);
  lease.release();
}

TEST_F(PromisesTest, DestructionEndsCallsThatWait) {
  auto pager = make(1);
  const Lease held = acquire(*pager, 0);
  std::atomic<bool> refused = false;
  std::thread waiting([&refused, &waited = *pager] {
    try {
      acquire(waited, 1);
    } catch (const Error&) {
      refused = true;
    }
  });
  std::this_thread::sleep_for(50ms);
  pager.reset();
  waiting.join();
  EXPECT_TRUE(refused);
}

// ---- 4: nothing hangs

TEST_F(PromisesTest, ThreadThatHoldsTooMuchInAnotherStreamIsToldSo) {
  const auto pager = make(1);
  EXPECT_TRUE(ends([&] {
    HostStream a;
    HostStream b;
    const Lease held = acquire(*pager, 0, a.ref());
    EXPECT_THROW(acquire(*pager, 1, b.ref()), BudgetError);
  }));
}

TEST_F(PromisesTest, ThoseWhomAReleaseMakesFailAreWoken) {
  for (int round = 0; round < 50; ++round) {
    const auto pager = make(3);
    EXPECT_TRUE(ends([&] {
      std::vector<std::thread> threads;
      for (std::uint32_t t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
          for (std::uint32_t i = 0; i < 10; ++i) {
            try {
              HostStream stream;
              const Lease first = acquire(*pager, (t * 5 + i) % kPages, stream.ref());
              const Lease second = acquire(*pager, (t * 5 + i + 1) % kPages, stream.ref());
            } catch (const BudgetError&) {
            }
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
    }));
  }
}

TEST_F(PromisesTest, SettleEndsAfterAnAcquireThatFailedInABusyStream) {
  store_->bad_page = 2;
  const auto pager = make(3);
  EXPECT_TRUE(ends([&] {
    HostStream stream;
    stream.launch([] { std::this_thread::sleep_for(50ms); });
    try {
      acquire(*pager, 2, stream.ref()).release();
    } catch (const StoreError&) {
    }
    try {
      pager->settle();
    } catch (const StoreError&) {
    }
    pager->settle();
  }));
}

/// Bytes arrive when somebody says so.
class LateStore final : public BackingStore {
 public:
  explicit LateStore(std::uint32_t pages) : words_(pages) {}
  Bytes size() const override { return words_.size(); }
  void read(Bytes offset, std::span<std::byte> out) const override { words_.read(offset, out); }
  Subscription announce(std::function<void(ByteRange)> ready) const override {
    const std::lock_guard lock(mutex_);
    if (arrived_) ready({Bytes{0}, size()});
    const auto at = listeners_.insert(listeners_.end(), std::move(ready));
    return Subscription([this, at] {
      const std::lock_guard inner(mutex_);
      listeners_.erase(at);
    });
  }
  void arrive() {
    const std::lock_guard lock(mutex_);
    arrived_ = true;
    for (const auto& ready : listeners_) ready({Bytes{0}, size()});
  }

 private:
  WordStore words_;
  mutable std::mutex mutex_;
  mutable std::list<std::function<void(ByteRange)>> listeners_;
  bool arrived_ = false;
};

TEST_F(PromisesTest, TwoPagersOnAStoreThatIsLateBothHearOfIt) {
  const auto store = std::make_shared<LateStore>(kPages);
  const auto make_on_store = [&] {
    return std::make_unique<Pager>(make_host_device(), store,
                                   PagerOptions{.arena = kPage * 2, .page = kPage});
  };
  const auto first = make_on_store();
  const auto second = make_on_store();
  std::thread later([&] {
    std::this_thread::sleep_for(20ms);
    store->arrive();
  });
  for (const auto* pager : {&first, &second}) {
    EXPECT_TRUE(ends([&] {
      const Lease lease = acquire(**pager, 3);
      EXPECT_TRUE(WordStore::correct((*pager)->address(kPage * 3), 3));
    }));
  }
  later.join();
}

TEST_F(PromisesTest, ShrinkingBelowWhatTheCallerHoldsIsAnErrorAndTheArenaStays) {
  const auto pager = make(4);
  EXPECT_TRUE(ends([&] {
    const Lease a = acquire(*pager, 0);
    const Lease b = acquire(*pager, 1);
    EXPECT_THROW(pager->set_arena(kPage), BudgetError);
    EXPECT_GE(pager->statistics().arena, kPage * 2);
  }));
  for (std::uint32_t page = 0; page < kPages; ++page) {
    const Lease lease = acquire(*pager, page);
    EXPECT_TRUE(WordStore::correct(pager->address(kPage * page), page));
  }
}

TEST_F(PromisesTest, SettleAndEvictAllEndWhileOthersGoOn) {
  const auto pager = make(4);
  pager->set_plan(cycle(kPages));
  std::atomic<bool> stop = false;
  std::thread other([&] {
    HostStream stream;
    for (std::uint32_t step = 0; !stop; step = (step + 1) % kPages) {
      const Lease lease = pager->acquire(StepIndex{step}, {}, stream.ref());
      stream.launch([] { std::this_thread::sleep_for(1ms); });
    }
  });
  EXPECT_TRUE(ends([&] {
    for (int i = 0; i < 20; ++i) {
      pager->settle();
      pager->evict_all();
    }
  }));
  stop = true;
  other.join();
}

// ---- 6: old failures are old

TEST_F(PromisesTest, PageThatWasReadWellSinceIsNotReportedAsUnreadable) {
  const auto pager = make(1);
  store_->bad_page = 2;
  EXPECT_THROW(acquire(*pager, 2), StoreError);
  store_->bad_page = kNoPage;
  acquire(*pager, 2).release();
  const Lease held = acquire(*pager, 3);
  EXPECT_THROW(acquire(*pager, 2), BudgetError);
}

// ---- 7: fork

TEST_F(PromisesTest, ChildProcessGetsErrorsAndItsExitHangsNowhere) {
  const auto pager = make(3);
  pager->set_plan(cycle(kPages));
  auto lease = std::make_unique<Lease>(pager->acquire(StepIndex{0}));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto refuses = [](const std::function<void()>& call) {
      try {
        call();
      } catch (const Error&) {
        return true;
      }
      return false;
    };
    const bool all =
        refuses([&] { pager->acquire(StepIndex{1}); }) && refuses([&] { pager->settle(); }) &&
        refuses([&] { pager->check(); }) && refuses([&] { pager->set_arena(kPage); }) &&
        refuses([&] { pager->evict_all(); }) && refuses([&] { pager->set_plan(cycle(2)); }) &&
        refuses([&] { static_cast<void>(pager->statistics()); });
    lease.reset();
    const_cast<std::unique_ptr<Pager>&>(pager).reset();
    ::_exit(all ? 0 : 1);
  }
  int status = -1;
  for (int i = 0; i < 200 && ::waitpid(child, &status, WNOHANG) == 0; ++i) {
    std::this_thread::sleep_for(50ms);
    if (i == 199) ::kill(child, SIGKILL);
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
  EXPECT_TRUE(WordStore::correct(pager->address(Bytes{0}), 0));
}

TEST_F(PromisesTest, ChildProcessThatReadsAPageFaults) {
  const auto pager = make(3);
  const Lease lease = acquire(*pager, 0);
  const std::byte* const address = pager->address(Bytes{0});
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGSEGV, SIG_DFL);
    const volatile std::byte value = *address;
    (void)value;
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// ---- 10 and others

TEST_F(PromisesTest, PagerWithoutDeviceOrStoreIsAnError) {
  EXPECT_THROW(Pager(nullptr, store_, {.arena = kPage, .page = kPage}), Error);
  EXPECT_THROW(Pager(make_host_device(), nullptr, {.arena = kPage, .page = kPage}), Error);
}

TEST_F(PromisesTest, TryAcquireTakesWhatIsThereAndNothingElse) {
  const auto pager = make(2);
  const ByteRange range = page_range(4);
  EXPECT_FALSE(pager->try_acquire(std::span(&range, 1)).has_value());
  EXPECT_EQ(pager->statistics().core.loads, 0U);
  acquire(*pager, 4).release();
  const auto lease = pager->try_acquire(std::span(&range, 1));
  ASSERT_TRUE(lease.has_value());
  EXPECT_TRUE(WordStore::correct(pager->address(range.offset), 4));
}

TEST_F(PromisesTest, PagersThatShareABudgetNeverTakeMore) {
  const auto budget = std::make_shared<ArenaBudget>(kPage * 6);
  const auto make_shared_pager = [&](std::uint32_t frames) {
    return std::make_unique<Pager>(
        make_host_device(), store_,
        PagerOptions{.arena = kPage * frames, .page = kPage, .budget = budget});
  };
  auto first = make_shared_pager(4);
  EXPECT_THAT([&] { make_shared_pager(3); },
              ThrowsMessage<BudgetError>(HasSubstr("8192 bytes left")));
  const auto second = make_shared_pager(2);
  EXPECT_THROW(second->set_arena(kPage * 3), BudgetError);
  EXPECT_EQ(second->statistics().frames, 2U);
  first->set_arena(kPage * 1);
  second->set_arena(kPage * 5);
  EXPECT_EQ(second->statistics().frames, 5U);
  EXPECT_EQ(budget->left(), Bytes{0});
  first.reset();
  EXPECT_EQ(budget->left(), kPage);
}

TEST_F(PromisesTest, ArenaShrinksAndGrowsWhileAnotherThreadWorks) {
  const auto pager = make(8);
  pager->set_plan(cycle(kPages));
  std::atomic<bool> stop = false;
  std::atomic<std::uint32_t> wrong = 0;
  std::thread worker([&] {
    HostStream stream;
    for (int pass = 0; pass < 40; ++pass) {
      for (std::uint32_t step = 0; step < kPages; ++step) {
        const Lease lease = pager->acquire(StepIndex{step}, {}, stream.ref());
        stream.launch([&, step] {
          wrong += WordStore::correct(pager->address(kPage * step), step) ? 0U : 1U;
        });
      }
      stream.synchronize();
      pager->check(stream.ref());
    }
    stop = true;
  });
  const std::vector<std::uint32_t> sizes = {1, 7, 2, 16, 3, 5};
  for (std::size_t i = 0; !stop; ++i) pager->set_arena(kPage * sizes[i % sizes.size()]);
  worker.join();
  EXPECT_EQ(wrong, 0U);
  pager->set_arena(kPage * 8);
  EXPECT_EQ(pager->device().memory().current, kPage * 8);
}

}  // namespace
}  // namespace tensor_pager::testing
