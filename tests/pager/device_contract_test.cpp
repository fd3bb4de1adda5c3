// What every device promises. A new device joins by adding itself to the list at the end.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "pager/device.hpp"
#include "pager/errors.hpp"
#include "pager/host_device.hpp"
#include "pager/memory_store.hpp"

#ifdef TENSOR_PAGER_CUDA
#include <cuda_runtime_api.h>

#include "pager/cuda_device.hpp"
#endif

namespace tensor_pager::testing {
namespace {

/// Fails to deliver one byte of the image.
class FaultyStore final : public BackingStore {
 public:
  FaultyStore(const BackingStore& store, Bytes bad) : store_(store), bad_(bad) {}
  Bytes size() const override { return store_.size(); }
  void read(Bytes offset, std::span<std::byte> out) const override {
    if (offset <= bad_ && bad_ < offset + Bytes{out.size()}) throw StoreError("bad sector");
    store_.read(offset, out);
  }

 private:
  const BackingStore& store_;
  Bytes bad_;
};

struct DeviceKind {
  std::function<bool()> available;
  std::function<std::unique_ptr<Device>()> make;
  /// Device memory as the host sees it.
  std::function<std::vector<std::byte>(const std::byte*, std::size_t)> read;
};

class DeviceContract : public ::testing::TestWithParam<DeviceKind> {
 protected:
  static constexpr std::uint32_t kPages = 6;

  void SetUp() override {
    if (!GetParam().available()) GTEST_SKIP() << "no such device on this machine";
    device_ = GetParam().make();
    page_ = device_->info().page_granularity;
    image_.resize(page_.count * kPages - 100);  // the last page is short
    for (std::size_t i = 0; i < image_.size(); ++i)
      image_[i] = static_cast<std::byte>(i * 31 + i / 251);
    store_ = std::make_unique<MemoryStore>(image_);
    device_->reserve({.image = {image_.size()}, .page = page_});
  }

  void finish(CopyId copy) {
    while (!ended(copy)) std::this_thread::yield();
  }
  bool ended(CopyId copy) {
    try {
      return device_->finished(copy);
    } catch (const StoreError&) {
      return true;
    }
  }

  bool holds(std::uint32_t page) const {
    const std::size_t begin = page * page_.count;
    const std::size_t size = std::min<std::size_t>(page_.count, image_.size() - begin);
    const std::vector<std::byte> found = GetParam().read(device_->base() + begin, size);
    return std::memcmp(found.data(), image_.data() + begin, size) == 0;
  }

  std::unique_ptr<Device> device_;
  Bytes page_;
  std::vector<std::byte> image_;
  std::unique_ptr<BackingStore> store_;
};

TEST_P(DeviceContract, CopiedPageIsReadAtItsAddress) {
  device_->create_frame({0});
  for (std::uint32_t page = 0; page < kPages; ++page) {
    device_->map({page}, {0});
    finish(device_->copy(*store_, {{page}, 1}));
    EXPECT_TRUE(holds(page)) << "page " << page;
  }
}

TEST_P(DeviceContract, RunOfPagesIsOneCopyIntoScatteredFrames) {
  for (std::uint32_t frame = 0; frame < 3; ++frame) device_->create_frame({frame});
  device_->map({3}, {2});
  device_->map({4}, {0});
  device_->map({5}, {1});
  finish(device_->copy(*store_, {{3}, 3}));
  EXPECT_TRUE(holds(3) && holds(4) && holds(5));
  EXPECT_EQ(device_->link().copies, 1U);
  EXPECT_EQ(device_->link().copied, page_ * 3 - Bytes{100});
}

TEST_P(DeviceContract, RunIsMappedOverWhatWasMappedThere) {
  for (std::uint32_t frame = 0; frame < 4; ++frame) device_->create_frame({frame});
  device_->map({2}, {3});
  device_->map({4}, {0});
  device_->map({5}, {1});
  const std::vector<FrameIndex> frames = {{1}, {2}, {0}, {3}};
  device_->unmap({2});
  device_->map_run({2}, frames);
  finish(device_->copy(*store_, {{2}, 4}));
  EXPECT_TRUE(holds(2) && holds(3) && holds(4) && holds(5));
}

TEST_P(DeviceContract, FormerMappingIsReplaced) {
  device_->create_frame({0});
  device_->create_frame({1});
  device_->map({2}, {0});
  finish(device_->copy(*store_, {{2}, 1}));
  device_->map({3}, {0});
  finish(device_->copy(*store_, {{3}, 1}));
  device_->map({2}, {1});
  finish(device_->copy(*store_, {{2}, 1}));
  EXPECT_TRUE(holds(2) && holds(3));
}

TEST_P(DeviceContract, CopiesEndInOrder) {
  device_->create_frame({0});
  device_->create_frame({1});
  device_->map({0}, {0});
  device_->map({1}, {1});
  const CopyId first = device_->copy(*store_, {{0}, 1});
  const CopyId second = device_->copy(*store_, {{1}, 1});
  EXPECT_LT(first, second);
  finish(second);
  EXPECT_TRUE(device_->finished(first));
}

TEST_P(DeviceContract, FailedCopySaysWhyAndLaterCopiesGoOn) {
  const FaultyStore faulty(*store_, page_ * 1);
  device_->create_frame({0});
  device_->create_frame({1});
  device_->map({1}, {0});
  device_->map({2}, {1});
  const CopyId bad = device_->copy(faulty, {{1}, 1});
  const CopyId good = device_->copy(faulty, {{2}, 1});
  finish(good);
  EXPECT_THROW(device_->finished(bad), StoreError);
  EXPECT_TRUE(device_->finished(good));
  EXPECT_TRUE(holds(2));
}

TEST_P(DeviceContract, ProgressIsAnnounced) {
  std::atomic<int> announced = 0;
  device_->on_progress([&] { ++announced; });
  device_->create_frame({0});
  device_->map({0}, {0});
  const CopyId copy = device_->copy(*store_, {{0}, 1});
  while (!device_->finished(copy) || announced == 0) std::this_thread::yield();
  device_->on_progress({});
  EXPECT_GE(announced, 1);
}

TEST_P(DeviceContract, MemoryIsCountedAndReturned) {
  const Bytes before = device_->memory().current;
  device_->create_frame({0});
  {
    const DeviceBuffer buffer = device_->allocate(MiB(1));
    EXPECT_EQ(device_->memory().current, before + page_ + MiB(1));
  }
  device_->destroy_frame({0});
  EXPECT_EQ(device_->memory().current, before);
  EXPECT_EQ(device_->memory().peak, before + page_ + MiB(1));
}

TEST_P(DeviceContract, DestroyedFrameCanBeCreatedAgain) {
  for (int round = 0; round < 3; ++round) {
    device_->create_frame({1});
    device_->map({0}, {1});
    finish(device_->copy(*store_, {{0}, 1}));
    EXPECT_TRUE(holds(0));
    device_->unmap({0});
    device_->destroy_frame({1});
  }
}

DeviceKind host_kind(const HostDeviceOptions& options = {}) {
  return {.available = [] { return true; },
          .make = [options] { return make_host_device(options); },
          .read = [](const std::byte* data,
                     std::size_t size) { return std::vector<std::byte>(data, data + size); }};
}

INSTANTIATE_TEST_SUITE_P(Host, DeviceContract, ::testing::Values(host_kind()));

/// A second host device, with a slow link: nothing but time may differ.
INSTANTIATE_TEST_SUITE_P(
    HostWithSlowLink, DeviceContract,
    ::testing::Values(host_kind({.link_bytes_per_second = 50e6,
                                 .link_latency = std::chrono::microseconds(200),
                                 .trace = nullptr})));

#ifdef TENSOR_PAGER_CUDA
INSTANTIATE_TEST_SUITE_P(Cuda, DeviceContract,
                         ::testing::Values(DeviceKind{
                             .available = [] { return cuda_device_count() > 0; },
                             .make = [] { return make_cuda_device(); },
                             .read =
                                 [](const std::byte* data, std::size_t size) {
                                   std::vector<std::byte> out(size);
                                   cudaMemcpy(out.data(), data, size, cudaMemcpyDeviceToHost);
                                   return out;
                                 }}));
#endif

class HostDeviceTest : public ::testing::Test {
 protected:
  static constexpr Bytes kPage = KiB(64);

  HostDeviceTest() : image_(kPage.count * 4, std::byte{7}), store_(image_) {}

  std::unique_ptr<Device> make(const HostDeviceOptions& options = {}) {
    auto device = make_host_device(options);
    device->reserve({.image = {image_.size()}, .page = kPage});
    device->create_frame({0});
    device->map({0}, {0});
    return device;
  }

  std::vector<std::byte> image_;
  MemoryStore store_;
};

TEST_F(HostDeviceTest, StreamWaitsForTheCopyAndTheCallerDoesNot) {
  const auto device = make({.link_bytes_per_second = 0,
                            .link_latency = std::chrono::milliseconds(50),
                            .trace = nullptr});
  HostStream stream;
  const CopyId copy = device->copy(store_, {{0}, 1});
  device->wait(stream.ref(), copy);
  bool copied_first = false;
  stream.launch([&] { copied_first = device->finished(copy); });
  const FenceId fence = device->record(stream.ref());
  EXPECT_FALSE(device->passed(fence)) << "the caller waited for the copy";
  stream.synchronize();
  EXPECT_TRUE(device->passed(fence));
  EXPECT_TRUE(copied_first);
}

TEST_F(HostDeviceTest, LinkRateIsKept) {
  const auto device = make({.link_bytes_per_second = 1e6, .link_latency = {}, .trace = nullptr});
  device->wait({}, device->copy(store_, {{0}, 1}));
  EXPECT_GE(device->link().busy, std::chrono::microseconds(65536));
}

TEST_F(HostDeviceTest, PageThatWasNeverBroughtInFaults) {
  const auto device = make();
  device->wait({}, device->copy(store_, {{0}, 1}));
  EXPECT_DEATH(
      {
        const volatile std::byte value = device->base()[kPage.count];
        (void)value;
      },
      "");
}

TEST_F(HostDeviceTest, WritingToAPageFaults) {
  const auto device = make();
  device->wait({}, device->copy(store_, {{0}, 1}));
  EXPECT_DEATH({ device->base()[0] = std::byte{1}; }, "");
}

TEST_F(HostDeviceTest, CopiesAreTraced) {
  Trace trace;
  const auto device = make({.link_bytes_per_second = 0, .link_latency = {}, .trace = &trace});
  device->wait({}, device->copy(store_, {{0}, 1}));
  std::ostringstream out;
  trace.write(out);
  EXPECT_NE(out.str().find("pages 0 to 0, 65536 bytes"), std::string::npos) << out.str();
}

}  // namespace
}  // namespace tensor_pager::testing
