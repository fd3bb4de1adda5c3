// SPDX-License-Identifier: Apache-2.0
// A walk along everything that can fail: a small run of a pager is repeated, and each time the next
// call of its device, or of its store, fails. Each run ends, and no bytes are wrong that no call
// has reported.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../temporary_directory.hpp"
#include "faulty_device.hpp"
#include "pager/errors.hpp"
#include "pager/host_device.hpp"
#include "pager/memory_store.hpp"
#include "pager/pager.hpp"

#ifdef TENSOR_PAGER_CUDA
#include <cuda_runtime_api.h>

#include "pager/cuda_device.hpp"
#include "pager/pinned_store.hpp"
#endif

namespace tensor_pager::testing {
namespace {

constexpr std::uint32_t kPages = 16;
constexpr std::uint64_t kFrames = 6;
constexpr std::uint64_t kFewFrames = 4;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::chrono::seconds kPatience{200};
#else
constexpr std::chrono::seconds kPatience{20};
#endif

/// Ends the program if something takes too long: a pager that hangs cannot be asked to stop.
class Watchdog {
 public:
  explicit Watchdog(const FaultPlan& plan) : thread_([this, &plan] { watch(plan); }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void watch(const FaultPlan& plan) {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, kPatience, [&] { return done_; })) return;
    std::fprintf(stderr, "the run hangs after %llu calls (%s)\n",
                 static_cast<unsigned long long>(plan.calls()), plan.injected().c_str());
    std::abort();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

/// A queue of work on a device: work that compares pages with what they should be.
class Checker {
 public:
  Checker() = default;
  virtual ~Checker() = default;
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;

  virtual StreamRef stream() = 0;
  /// Queues the work.
  virtual void compare(const std::byte* found, std::span<const std::byte> expected) = 0;
  /// How many pages were wrong since the last call. Waits for the work.
  virtual std::uint64_t take_wrong() = 0;
};

class HostChecker final : public Checker {
 public:
  StreamRef stream() override { return stream_.ref(); }
  void compare(const std::byte* found, std::span<const std::byte> expected) override {
    stream_.launch([this, found, expected] {
      if (std::memcmp(found, expected.data(), expected.size()) != 0) ++wrong_;
    });
  }
  std::uint64_t take_wrong() override {
    stream_.synchronize();
    return std::exchange(wrong_, 0);
  }

 private:
  std::uint64_t wrong_ = 0;  // of the stream's thread, unless it was synchronised
  HostStream stream_;
};

#ifdef TENSOR_PAGER_CUDA
/// Compares the first and the last bytes of each page.
class CudaChecker final : public Checker {
 public:
  CudaChecker() {
    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    cudaMallocHost(&found_, kSlots * 2 * kSample);
  }
  ~CudaChecker() override {
    cudaStreamSynchronize(stream_);
    cudaFreeHost(found_);
    cudaStreamDestroy(stream_);
  }

  StreamRef stream() override { return {stream_}; }
  void compare(const std::byte* found, std::span<const std::byte> expected) override {
    ASSERT_LT(expected_.size() + 2, kSlots * 2);
    sample(found, expected.first(kSample));
    sample(found + expected.size() - kSample, expected.last(kSample));
  }
  std::uint64_t take_wrong() override {
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    std::uint64_t wrong = 0;
    for (std::size_t i = 0; i < expected_.size(); ++i)
      wrong += std::memcmp(slot(i), expected_[i].data(), kSample) != 0 ? 1 : 0;
    expected_.clear();
    return wrong;
  }

 private:
  static constexpr std::size_t kSample = 256;
  static constexpr std::size_t kSlots = 256;

  std::byte* slot(std::size_t i) const { return static_cast<std::byte*>(found_) + i * kSample; }
  void sample(const std::byte* found, std::span<const std::byte> expected) {
    cudaMemcpyAsync(slot(expected_.size()), found, kSample, cudaMemcpyDeviceToHost, stream_);
    expected_.push_back(expected);
  }

  cudaStream_t stream_ = nullptr;
  void* found_ = nullptr;
  std::vector<std::span<const std::byte>> expected_;
};
#endif

struct Kind {
  std::function<bool()> available;
  std::function<std::unique_ptr<Device>(Trace&)> make_device;
  std::function<std::unique_ptr<Checker>()> make_checker;
  /// The image's bytes as a store.
  std::function<std::shared_ptr<const BackingStore>(std::span<const std::byte>)> make_store;
  /// What no run of this kind calls.
  std::set<FaultSite> never;
};

/// A pager with a faulty device and a faulty store, and what its calls report.
class FaultyRun {
 public:
  FaultyRun(const Kind& kind, std::span<const std::byte> image,
            std::shared_ptr<const BackingStore> store, std::shared_ptr<FaultPlan> plan)
      : kind_(kind),
        image_(image),
        page_{image.size() / kPages},
        store_(std::make_shared<FaultyStore>(std::move(store), plan)),
        plan_(std::move(plan)) {}

  /// Everything, once, while the fault may come at any moment.
  void go() {
    if (!attempt([&] { make(); })) return;
    attempt([&] { pager_->set_plan(access_plan()); });
    pass();
    attempt([&] { pager_->set_arena(page_ * kFewFrames); });
    pass();
    attempt([&] { pager_->set_arena(page_ * kFrames); });
    attempt([&] { pager_->evict_all(); });
    acquire_ranges();
    attempt([&] { (void)pager_->statistics(); });
    attempt([&] { (void)pager_->device().allocate(page_); });
    attempt([&] { pager_->settle(); });
    compare_all();
  }

  /// A pager that had a fault works, or says at each acquire that it does not. Whether it works.
  bool expect_works_or_says_so() {
    if (!pager_) return false;
    const bool had_fault = !plan_->injected().empty();
    std::uint32_t granted = fresh_pass();
    if (!had_fault && !plan_->injected().empty()) granted = fresh_pass();  // it came just now
    if (granted == 0) return false;
    EXPECT_EQ(granted, kPages) << "it works at times, after " << plan_->injected();
    EXPECT_EQ(reported_, 0U) << last_report_ << ", after " << plan_->injected();
    return true;
  }

  void destroy() { pager_.reset(); }
  bool reported() const { return reported_ > 0; }
  /// What the device held when it was destroyed.
  Bytes last_memory() const { return last_memory_; }
  Bytes arena() const { return page_ * kFrames; }

 private:
  void make() {
    // The device comes first: a constructor that throws destroys it.
    auto device = std::make_unique<FaultyDevice>(
        kind_.make_device(trace_), plan_, [this](MemoryStatistics m) { last_memory_ = m.current; });
    pager_ = std::make_unique<Pager>(
        std::move(device), store_,
        PagerOptions{.arena = arena(), .page = page_, .trace = &trace_, .publish = false});
  }

  /// A page a step; every fourth step reads the first one too.
  AccessPlan access_plan() const {
    AccessPlan plan;
    for (std::uint32_t step = 0; step < kPages; ++step) {
      plan.steps.push_back({.reads = {range(step)}});
      if (step % 4 == 3) plan.steps.back().reads.push_back(range(0));
    }
    return plan;
  }

  /// How many of the steps were granted.
  std::uint32_t pass() {
    std::uint32_t granted = 0;
    for (std::uint32_t step = 0; step < kPages; ++step) {
      granted += attempt([&] {
        const Lease lease = pager_->acquire(StepIndex{step}, {}, checker_->stream());
        compare(step);
        if (step % 4 == 3) compare(0);
      });
    }
    compare_all();
    return granted;
  }

  std::uint32_t fresh_pass() {
    attempt([&] { pager_->check(checker_->stream()); });  // nothing is left to be told
    attempt([&] { pager_->settle(); });
    checker_->take_wrong();
    reported_ = 0;
    return pass();
  }

  void acquire_ranges() {
    attempt([&] {
      const std::vector<ByteRange> ranges = {range(2), range(3), range(9)};
      const Lease lease = pager_->acquire(ranges, checker_->stream());
      for (const std::uint32_t page : {2U, 3U, 9U}) compare(page);
    });
    compare_all();
  }

  void compare(std::uint32_t page) {
    const ByteRange bytes = range(page);
    checker_->compare(pager_->address(bytes.offset),
                      image_.subspan(bytes.offset.count, bytes.size.count));
  }

  /// Wrong bytes since the last time must have been reported.
  void compare_all() {
    const std::uint64_t wrong = checker_->take_wrong();
    attempt([&] { pager_->check(checker_->stream()); });
    if (wrong > 0) {
      EXPECT_GT(reported_, unexcused_) << wrong << " wrong pages, after " << plan_->injected();
    }
    unexcused_ = reported_;
  }

  /// Whether the call did not throw. Anything else than Error is not clean.
  template <class Call>
  bool attempt(const Call& call) {
    try {
      call();
      return true;
    } catch (const Error& error) {
      last_report_ = error.what();
      ++reported_;
    } catch (const std::exception& error) {
      ADD_FAILURE() << "not an Error: " << error.what() << ", after " << plan_->injected();
    }
    return false;
  }

  ByteRange range(std::uint32_t page) const { return {page_ * page, page_}; }

  const Kind& kind_;
  const std::span<const std::byte> image_;
  const Bytes page_;
  const std::shared_ptr<const BackingStore> store_;
  const std::shared_ptr<FaultPlan> plan_;
  Trace trace_;
  std::uint64_t reported_ = 0;
  std::uint64_t unexcused_ = 0;  // reports that were there when bytes were compared last
  std::string last_report_;
  Bytes last_memory_;
  std::unique_ptr<Checker> checker_ = kind_.make_checker();
  std::unique_ptr<Pager> pager_;
};

/// Mappings of arenas of the host device in this process.
std::size_t arena_mappings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);)
    count += line.find("tensor-pager-arena") != std::string::npos ? 1U : 0U;
  return count;
}

class FaultWalk : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (!GetParam().available()) GTEST_SKIP() << "no such device on this machine";
    Trace trace;
    const Bytes page = GetParam().make_device(trace)->info().page_granularity;
    image_.resize(page.count * kPages);
    for (std::size_t i = 0; i < image_.size(); ++i)
      image_[i] = static_cast<std::byte>(i * 31 + i / 251 + i / page.count);
    store_ = GetParam().make_store(image_);
  }

  /// Whether the n-th call failed: a run may end before.
  bool walk(std::uint64_t n) {
    const auto plan = std::make_shared<FaultPlan>(n);
    const Watchdog watchdog(*plan);
    FaultyRun run(GetParam(), image_, store_, plan);
    run.go();
    reported_ += run.reported() ? 1U : 0U;
    EXPECT_TRUE(!run.reported() || !plan->injected().empty()) << "nothing has failed";
    works_ += run.expect_works_or_says_so() ? 1U : 0U;
    run.destroy();
    EXPECT_LE(run.last_memory(), run.arena()) << "after " << plan->injected();
    EXPECT_EQ(arena_mappings(), 0U) << "after " << plan->injected();
    calls_ = plan->calls();
    const std::set<FaultSite> seen = plan->seen();
    seen_.insert(seen.begin(), seen.end());
    return !plan->injected().empty();
  }

  std::vector<std::byte> image_;
  std::shared_ptr<const BackingStore> store_;
  std::uint64_t calls_ = 0;     // of the last run
  std::uint64_t reported_ = 0;  // runs in which a call threw
  std::uint64_t works_ = 0;     // runs after which the pager works
  std::set<FaultSite> seen_;
};

TEST_P(FaultWalk, WhateverFailsIsReportedOrRecoveredFrom) {
  // Threads take turns differently each time: the first run that is too short may not be the last.
  std::uint64_t n = 1;
  for (int in_peace = 0; in_peace < 3 && !HasFailure(); ++n) in_peace = walk(n) ? 0 : in_peace + 1;
  std::cout << n - 1 << " runs, of which " << reported_ << " reported an error, and after "
            << works_ << " the pager works; the last one made " << calls_
            << " calls that could have failed\n";
  for (const auto& [site, name] : kFaultSites) {
    EXPECT_TRUE(seen_.contains(site) || GetParam().never.contains(site)) << name;
  }
}

std::shared_ptr<const BackingStore> in_memory(std::span<const std::byte> image) {
  return std::make_shared<const MemoryStore>(image);
}

Kind host_kind(std::chrono::nanoseconds link_latency) {
  return {.available = [] { return true; },
          .make_device =
              [link_latency](Trace& trace) {
                return make_host_device(
                    {.link_bytes_per_second = 0, .link_latency = link_latency, .trace = &trace});
              },
          .make_checker = [] { return std::make_unique<HostChecker>(); },
          .make_store = in_memory,
          .never = {}};
}

INSTANTIATE_TEST_SUITE_P(Host, FaultWalk, ::testing::Values(host_kind({})));
/// Copies are still under way when things fail.
INSTANTIATE_TEST_SUITE_P(HostWithSlowLink, FaultWalk,
                         ::testing::Values(host_kind(std::chrono::microseconds(50))));

/// The image in a file, and devices whose pages are that file's.
Kind in_place_kind() {
  struct File {
    tests::TemporaryDirectory directory;
    std::shared_ptr<const MappedFileStore> store;
  };
  const auto file = std::make_shared<File>();
  Kind kind = host_kind({});
  kind.make_store = [file](std::span<const std::byte> image) {
    const std::string_view bytes(reinterpret_cast<const char*>(image.data()), image.size());
    file->store =
        std::make_shared<const MappedFileStore>(std::vector{file->directory.write("image", bytes)});
    return file->store;
  };
  kind.make_device = [file](Trace& trace) {
    // The page size is asked for before there are files.
    return file->store ? make_in_place_device(file->store, &trace) : make_host_device();
  };
  kind.never = {FaultSite::read};
  return kind;
}

INSTANTIATE_TEST_SUITE_P(HostInPlace, FaultWalk, ::testing::Values(in_place_kind()));

#ifdef TENSOR_PAGER_CUDA
/// The image in a file, which lives as long as the store.
std::shared_ptr<const BackingStore> in_pinned_file(std::span<const std::byte> image) {
  struct File {
    tests::TemporaryDirectory directory;
    PinnedStore pinned;
  };
  const auto file = std::make_shared<File>();
  const std::string_view bytes(reinterpret_cast<const char*>(image.data()), image.size());
  file->pinned = make_pinned_store({file->directory.write("image", bytes)});
  return {file, file->pinned.store.get()};
}

Kind cuda_kind(decltype(Kind::make_store) make_store, std::set<FaultSite> never) {
  return {.available = [] { return cuda_device_count() > 0; },
          .make_device =
              [](Trace& trace) {
                return make_cuda_device({.gpu = 0, .link_bytes_per_second = 0, .trace = &trace});
              },
          .make_checker = [] { return std::make_unique<CudaChecker>(); },
          .make_store = std::move(make_store),
          .never = std::move(never)};
}

INSTANTIATE_TEST_SUITE_P(Cuda, FaultWalk, ::testing::Values(cuda_kind(in_memory, {})));
INSTANTIATE_TEST_SUITE_P(CudaPinned, FaultWalk,
                         ::testing::Values(cuda_kind(in_pinned_file, {FaultSite::read})));
#endif

}  // namespace
}  // namespace tensor_pager::testing
