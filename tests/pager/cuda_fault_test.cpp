// SPDX-License-Identifier: Apache-2.0
// What the CUDA device does when calls of the driver fail, on a driver that fails when it is told
// to. Needs no GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../temporary_directory.hpp"
#include "fake_cuda_driver.hpp"
#include "pager/cuda_device.hpp"
#include "pager/errors.hpp"
#include "pager/memory_store.hpp"
#include "pager/pinned_store.hpp"

namespace tensor_pager::testing {
namespace {

using ::testing::HasSubstr;

constexpr Bytes kPage = MiB(2);
constexpr std::uint32_t kPages = 4;

std::vector<std::byte> image() {
  std::vector<std::byte> bytes(kPage.count * kPages);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i * 31 + i / 4096);
  return bytes;
}

/// What the call throws; empty if it throws nothing.
std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// Something fails for as long as this lives.
class While {
 public:
  explicit While(std::atomic<bool>& fault) : fault_(fault) { fault_ = true; }
  ~While() { fault_ = false; }
  While(const While&) = delete;
  While& operator=(const While&) = delete;

 private:
  std::atomic<bool>& fault_;
};

class CudaFaults : public ::testing::Test {
 protected:
  CudaFaults() : image_(image()), store_(image_) {}
  /// Whatever failed: everything is returned, and the thread is what it was.
  void TearDown() override {
    device_.reset();
    EXPECT_EQ(fake_cuda::held(), "");
    EXPECT_TRUE(fake_cuda::thread_is_untouched());
  }

  /// A device with all pages mapped.
  Device& make() {
    device_ = make_cuda_device();
    device_->range().reserve({.image = {image_.size()}, .page = kPage});
    std::vector<FrameIndex> frames;
    for (std::uint32_t i = 0; i < kPages; ++i) {
      device_->range().create_frame({i});
      frames.push_back({i});
    }
    device_->range().map({0}, frames);
    return *device_;
  }
  CopyId copy(std::uint32_t page) { return device_->copies().copy(store_, {{page}, 1}); }
  /// The copy's failure, once it has ended; those before it are forgotten.
  std::exception_ptr failure_of(CopyId copy) {
    while (true) {
      const std::optional<EndedCopy> ended = device_->copies().take_ended();
      if (ended && ended->id == copy) return ended->failure;
    }
  }
  bool holds(std::uint32_t page) const {
    const std::size_t offset = kPage.count * page;
    return std::memcmp(device_->range().base() + offset, image_.data() + offset, kPage.count) == 0;
  }

  std::vector<std::byte> image_;
  MemoryStore store_;
  std::unique_ptr<Device> device_;
};

TEST_F(CudaFaults, CopiesAndReturnsEverything) {
  make();
  EXPECT_TRUE(fake_cuda::thread_is_untouched());
  EXPECT_EQ(failure_of(device_->copies().copy(store_, {{0}, kPages})), nullptr);
  for (std::uint32_t page = 0; page < kPages; ++page) EXPECT_TRUE(holds(page));
}

TEST_F(CudaFaults, DeviceThatCannotBeMadeLeavesNothing) {
  for (std::atomic<bool>* fault :
       {&fake_cuda::faults().event_create, &fake_cuda::faults().event_record}) {
    const While failing(*fault);
    EXPECT_THROW(make_cuda_device(), DeviceError);
    EXPECT_EQ(fake_cuda::held(), "");
  }
  EXPECT_THAT(error_of([] { make_cuda_device({.gpu = 2}); }), HasSubstr("GPU 2 does not exist"));
}

TEST_F(CudaFaults, MapThatFailsMidwayLeavesThePagesUnmapped) {
  make();
  const std::vector<FrameIndex> frames = {{1}, {1}, {2}};
  fake_cuda::faults().maps_left = 2;
  EXPECT_THROW(device_->range().map({1}, frames), DeviceError);
  fake_cuda::faults().maps_left = -1;
  EXPECT_EQ(fake_cuda::mappings(), 1);
  {
    const While failing(fake_cuda::faults().set_access);
    EXPECT_THROW(device_->range().map({1}, frames), DeviceError);
  }
  EXPECT_EQ(fake_cuda::mappings(), 1);
  device_->range().map({1}, frames);
  EXPECT_EQ(fake_cuda::mappings(), 4);
  EXPECT_EQ(failure_of(copy(1)), nullptr);
  EXPECT_TRUE(holds(1));
}

TEST_F(CudaFaults, CopyThatCannotBeQueuedFailsAndLaterOnesGoOn) {
  make();
  std::vector<CopyId> bad;
  for (std::atomic<bool>* fault :
       {&fake_cuda::faults().event_record, &fake_cuda::faults().event_create}) {
    const While busy(fake_cuda::faults().busy);  // so that no event is free
    const CopyId before = copy(0);
    const While failing(*fault);
    bad.push_back(copy(1));
    device_->copies().wait({}, bad.back());
    device_->copies().wait({}, before);
  }
  const CopyId good = copy(2);
  for (const CopyId id : bad) {
    const std::exception_ptr failure = failure_of(id);
    ASSERT_NE(failure, nullptr);
    EXPECT_THROW(std::rethrow_exception(failure), DeviceError);
  }
  EXPECT_EQ(failure_of(good), nullptr);
  EXPECT_TRUE(holds(2));
}

TEST_F(CudaFaults, GpuThatCannotTellIsAnErrorForWhoeverAsks) {
  make();
  std::atomic<bool> announced = false;
  device_->on_progress([&] { announced = true; });
  {
    const While failing(fake_cuda::faults().event_query);
    device_->clock().record({});
    const StampId stamp = device_->clock().stamp({});
    while (!announced) std::this_thread::yield();
    EXPECT_THROW(device_->clock().take_passed(), DeviceError);
    EXPECT_THROW(device_->clock().take_stamp(stamp), DeviceError);
    EXPECT_THROW(device_->copies().take_ended(), DeviceError);
  }
  EXPECT_THROW(device_->clock().take_passed(), DeviceError) << "the first failure is the last word";
  device_->on_progress({});
}

TEST_F(CudaFaults, FencesAndStampsPassWhenTheirEventsDo) {
  make();
  std::atomic<int> announced = 0;
  device_->on_progress([&] { ++announced; });
  std::optional<FenceId> fence;
  StampId stamp{};
  Trace::Time recorded;
  {
    const While busy(fake_cuda::faults().busy);
    fence = device_->clock().record({});
    stamp = device_->clock().stamp({});
    recorded = Trace::Clock::now();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_EQ(announced, 0);
    EXPECT_TRUE(device_->clock().take_passed().empty());
    EXPECT_FALSE(device_->clock().take_stamp(stamp).has_value());
  }
  std::vector<FenceId> passed;
  std::optional<Trace::Time> at;
  while (passed.empty() || !at) {
    if (passed.empty()) passed = device_->clock().take_passed();
    if (!at) at = device_->clock().take_stamp(stamp);
  }
  EXPECT_EQ(passed, std::vector<FenceId>{*fence});
  EXPECT_LT(*at, recorded + std::chrono::milliseconds(50)) << "not when it was noticed";
  device_->on_progress({});
  EXPECT_GE(announced, 1);
}

TEST_F(CudaFaults, DestructionWithEverythingPendingReturnsIt) {
  make();
  const While busy(fake_cuda::faults().busy);
  device_->clock().record({});
  device_->clock().stamp({});
  copy(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  device_.reset();
}

TEST_F(CudaFaults, BufferThatCannotBeZeroedIsReturnedAndNotCounted) {
  make();
  const Bytes before = device_->memory().current;
  {
    const While failing(fake_cuda::faults().memset);
    EXPECT_THROW(device_->allocate(MiB(1)), DeviceError);
  }
  EXPECT_THAT(error_of([&] { device_->allocate(GiB(8)); }), HasSubstr("the GPU has 512 MiB of 1"));
  EXPECT_EQ(device_->memory().current, before);
}

TEST_F(CudaFaults, CapturedStreamsAndThoseOfOtherGpusAreRefusedUntouched) {
  make();
  void* const stream = fake_cuda::make_stream(0);
  void* const other = fake_cuda::make_stream(1);
  EXPECT_EQ(device_->clock().identify({stream}), device_->clock().identify({stream}));
  EXPECT_THAT(error_of([&] { device_->clock().identify({other}); }),
              HasSubstr("belongs to GPU 1, but the pages are on GPU 0"));
  fake_cuda::faults().captured = stream;
  const auto captured = HasSubstr("the stream is being captured");
  EXPECT_THAT(error_of([&] { device_->clock().identify({stream}); }), captured);
  EXPECT_THAT(error_of([&] { device_->clock().record({stream}); }), captured);
  EXPECT_THAT(error_of([&] { device_->clock().stamp({stream}); }), captured);
  {
    const While busy(fake_cuda::faults().busy);
    const CopyId under_way = copy(0);
    EXPECT_THAT(error_of([&] { device_->copies().wait({stream}, under_way); }), captured);
  }
  fake_cuda::faults().captured = nullptr;
  fake_cuda::destroy_stream(stream);
  fake_cuda::destroy_stream(other);
}

TEST_F(CudaFaults, PinnedStoreTellsEveryListenerEverythingUntilItEnds) {
  const tests::TemporaryDirectory directory;
  const auto path =
      directory.write("image", {reinterpret_cast<const char*>(image_.data()), image_.size()});
  for (const bool pin_files : {true, false}) {
    const auto store = make_pinned_store({path}, {.pin_files = pin_files}).store;
    Bytes first;
    Bytes second;
    Subscription ends_first = store->announce([&](ByteRange range) { first += range.size; });
    const Subscription stays = store->announce([&](ByteRange range) { second += range.size; });
    ends_first.end();
    EXPECT_EQ(first, store->size());
    EXPECT_EQ(second, store->size());
    EXPECT_EQ(std::memcmp(store->data(), image_.data(), image_.size()), 0);
  }
  EXPECT_THROW(make_pinned_store({path}, {.gpu = 2}), DeviceError);
}

/// It joins no thread, and touches neither locks nor the GPU.
TEST_F(CudaFaults, ForkedChildGetsErrorsAndLeavesEverythingBehind) {
  const tests::TemporaryDirectory directory;
  const auto path =
      directory.write("image", {reinterpret_cast<const char*>(image_.data()), image_.size()});
  make();
  auto store = make_pinned_store({path}).store;
  Subscription subscription = store->announce([](ByteRange) {});
  const std::string held = fake_cuda::held();
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);  // ends it if it hangs
    bool good =
        error_of([&] { copy(0); }) != "" && error_of([&] { store->pinned({}, kPage); }) != "";
    good = good && error_of([&] { device_->clock().record({}); }) != "";
    good = good && error_of([] { make_cuda_device(); }) != "" && cuda_device_count() == 0;
    subscription.end();
    store.reset();
    device_.reset();
    ::_exit(good && fake_cuda::held() == held ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace tensor_pager::testing
