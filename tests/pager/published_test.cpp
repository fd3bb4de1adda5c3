// SPDX-License-Identifier: Apache-2.0
// What a pager shows to other processes: read in this process, whose memory is as good as
// another's.
#include "pager/published.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "pager/host_device.hpp"
#include "pager/memory_store.hpp"
#include "pager/pager.hpp"
#include "views/publication.hpp"

namespace tensor_pager {
namespace {

using ::testing::HasSubstr;

constexpr Bytes kPage = KiB(4);
constexpr std::uint32_t kPages = 16;

class PublishedTest : public ::testing::Test {
 protected:
  Pager make_pager(std::uint32_t frames, bool publish = true) {
    return Pager(make_host_device(), store_,
                 {.arena = kPage * frames,
                  .page = kPage,
                  .names = {{"first half", {{}, kPage * (kPages / 2)}},
                            {"second half", {kPage * (kPages / 2), kPage * (kPages / 2)}}},
                  .title = "sixteen pages",
                  .publish = publish});
  }

  static AccessPlan plan() {
    AccessPlan plan;
    for (std::uint32_t i = 0; i < kPages; ++i)
      plan.steps.push_back({.reads = {{kPage * i, kPage}}});
    return plan;
  }

  static std::string error_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  const std::vector<std::byte> image_ = std::vector<std::byte>(kPage.count * kPages);
  const std::shared_ptr<MemoryStore> store_ = std::make_shared<MemoryStore>(image_);
};

TEST_F(PublishedTest, CountersAndPagesAreThoseOfThePager) {
  Pager pager = make_pager(6);
  pager.set_plan(plan());
  for (int pass = 0; pass < 3; ++pass) {
    for (std::uint32_t i = 0; i < kPages; ++i) pager.acquire(StepIndex{i});
  }
  pager.settle();
  const auto published = PublishedPager::of_process(::getpid());
  ASSERT_EQ(published.size(), 1U);
  const PublishedState seen = published[0].read();
  const Statistics own = pager.statistics();
  EXPECT_EQ(seen.statistics.core.accesses, 3 * kPages);
  EXPECT_EQ(seen.statistics.core.hits, own.core.hits);
  EXPECT_EQ(seen.statistics.core.loads, own.core.loads);
  EXPECT_EQ(seen.statistics.core.evictions, own.core.evictions);
  EXPECT_EQ(seen.statistics.core.optimal, own.core.optimal);
  EXPECT_EQ(seen.statistics.link.copied, own.link.copied);
  EXPECT_EQ(seen.statistics.link.busy, own.link.busy);
  EXPECT_EQ(seen.statistics.memory.peak, own.memory.peak);
  EXPECT_EQ(seen.statistics.resident_pages, own.resident_pages);
  EXPECT_EQ(seen.statistics.peak_frames, 6U);
  EXPECT_EQ(seen.steps, kPages);
  EXPECT_EQ(seen.step, kPages - 1);
  EXPECT_GT(seen.age.count(), 0);

  std::uint64_t loads = 0;
  for (const std::uint32_t count : published[0].page_loads()) loads += count;
  EXPECT_EQ(loads, own.core.loads);
  const auto states = published[0].page_states();
  EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(states, PageState::resident)),
            own.resident_pages);
}

TEST_F(PublishedTest, SaysWhatTheImageConsistsOf) {
  const Pager pager = make_pager(4);
  const auto published = PublishedPager::of_process(::getpid());
  EXPECT_EQ(published[0].title(), "sixteen pages");
  EXPECT_EQ(published[0].device_kind(), "host");
  EXPECT_EQ(published[0].layout().page_count(), kPages);
  ASSERT_EQ(published[0].names().size(), 2U);
  EXPECT_EQ(published[0].names()[1].name, "second half");
  EXPECT_EQ(published[0].names()[1].bytes.offset, kPage * 8);
}

TEST_F(PublishedTest, SeveralPagersComeInTheOrderInWhichTheyWereMade) {
  const Pager first = make_pager(3);
  const Pager second = make_pager(5);
  const auto published = PublishedPager::of_process(::getpid());
  ASSERT_EQ(published.size(), 2U);
  EXPECT_EQ(published[0].read().statistics.frames, 3U);
  EXPECT_EQ(published[1].read().statistics.frames, 5U);
}

TEST_F(PublishedTest, NothingIsLeftOfAPagerThatIsGone) {
  { const Pager pager = make_pager(3); }
  EXPECT_THAT(error_of([] { PublishedPager::of_process(::getpid()); }),
              HasSubstr("publishes no statistics"));
}

TEST_F(PublishedTest, IsSwitchedOff) {
  const Pager pager = make_pager(3, /*publish=*/false);
  EXPECT_THAT(error_of([] { PublishedPager::of_process(::getpid()); }), HasSubstr("switched off"));
}

TEST_F(PublishedTest, AProcessThatDoesNotExistIsNamed) {
  EXPECT_THAT(error_of([] { PublishedPager::of_process(2147483647); }),
              HasSubstr("there is no process 2147483647"));
}

TEST_F(PublishedTest, AnotherUsersProcessIsNotReadable) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  const Pager pager = make_pager(3);
  const pid_t owner = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(2);
    const std::string said = error_of([&] { PublishedPager::of_process(owner); });
    ::_exit(said.find("another user") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// While numbers change all the time, every copy of them is of one moment: all of them are the same
// number here.
TEST_F(PublishedTest, ACopyIsOfOneMoment) {
  Publication publication({.image = kPage, .page = kPage}, "", "", "", {});
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (std::uint32_t n = 1; !stop; ++n) {
      PublishedState state;
      publication::for_each_number(
          state, [&](auto& number) { number = std::remove_reference_t<decltype(number)>(n); });
      publication.publish(state);
    }
  });
  const auto published = PublishedPager::of_process(::getpid());
  std::uint64_t last = 0;
  for (int i = 0; i < 20000; ++i) {
    const PublishedState state = published[0].read();
    const std::uint64_t first = state.statistics.page.count;
    EXPECT_GE(first, last);
    last = first;
    publication::for_each_number(state, [&](const auto& number) {
      if constexpr (requires { number.count(); }) {
        EXPECT_EQ(static_cast<std::uint64_t>(number.count()), first);
      } else {
        EXPECT_EQ(number, first);
      }
    });
  }
  stop = true;
  writer.join();
}

// A segment whose header says something else: as left by a process that died while writing, or
// written by another version.
class DamagedPublication : public PublishedTest {
 protected:
  DamagedPublication() {
    file_ = ::memfd_create(publication::kName, MFD_CLOEXEC);
    const publication::Places places(0, 1, 0);
    EXPECT_EQ(::ftruncate(file_, static_cast<off_t>(places.size)), 0);
    size_ = places.size;
    void* const memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    header_ = new (memory) publication::Header;
    header_->magic = publication::kMagic;
    header_->version = publication::kVersion;
    header_->image_bytes = kPage.count;
    header_->page_bytes = kPage.count;
  }
  ~DamagedPublication() override {
    ::munmap(header_, size_);
    ::close(file_);
  }

  std::string error() const {
    return error_of([] { PublishedPager::of_process(::getpid()).front().read(); });
  }

  int file_ = -1;
  std::size_t size_ = 0;
  publication::Header* header_ = nullptr;
};

TEST_F(DamagedPublication, IsFineAsMade) {
  EXPECT_EQ(error(), "no error");
}

TEST_F(DamagedPublication, DiedWhileWriting) {
  header_->sequence = 7;
  EXPECT_THAT(error(), HasSubstr("while it was writing"));
}

TEST_F(DamagedPublication, IsNotComplete) {
  header_->magic = 0;
  EXPECT_THAT(error(), HasSubstr("not complete yet"));
}

TEST_F(DamagedPublication, IsOfAnotherVersion) {
  header_->version = publication::kVersion + 1;
  EXPECT_THAT(error(), HasSubstr("version 2"));
}

TEST_F(DamagedPublication, SaysMoreThanItHas) {
  header_->image_bytes = kPage.count * 1000;
  EXPECT_THAT(error(), HasSubstr("damaged"));
  header_->image_bytes = kPage.count;
  header_->names = 1;
  EXPECT_THAT(error(), HasSubstr("damaged"));
  header_->names = 0;
  header_->page_bytes = 0;
  EXPECT_THAT(error(), HasSubstr("damaged"));
  header_->page_bytes = kPage.count;
  header_->title = {.offset = 0, .size = 1};
  EXPECT_THAT(error(), HasSubstr("damaged"));
}

}  // namespace
}  // namespace tensor_pager
