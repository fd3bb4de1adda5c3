// SPDX-License-Identifier: Apache-2.0
// What every device promises. A new device joins by adding itself to the list at the end.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <future>
#include <initializer_list>
#include <memory>
#include <optional>
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
class BadSectorStore final : public BackingStore {
 public:
  BadSectorStore(const BackingStore& store, Bytes bad) : store_(store), bad_(bad) {}
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
    device_->range().reserve({.image = {image_.size()}, .page = page_});
  }

  void create_frames(std::uint32_t count) {
    for (std::uint32_t frame = 0; frame < count; ++frame) device_->range().create_frame({frame});
  }
  void map(std::uint32_t page, std::uint32_t frame) {
    const FrameIndex frames[] = {{frame}};
    device_->range().map({page}, frames);
  }
  CopyId copy(std::uint32_t page) { return device_->copies().copy(*store_, {{page}, 1}); }

  EndedCopy next_ended() {
    while (true) {
      if (auto ended = device_->copies().take_ended()) return *std::move(ended);
      std::this_thread::yield();
    }
  }
  /// Takes the copies that end, up to this one.
  EndedCopy finish(CopyId id) {
    while (true) {
      EndedCopy ended = next_ended();
      if (ended.id == id) return ended;
    }
  }

  bool holds(std::uint32_t page, std::uint32_t bytes_of_page) const {
    const std::size_t begin = page * page_.count;
    const std::size_t size = std::min<std::size_t>(page_.count, image_.size() - begin);
    const std::vector<std::byte> found = GetParam().read(device_->range().base() + begin, size);
    return std::memcmp(found.data(), image_.data() + bytes_of_page * page_.count, size) == 0;
  }
  bool holds(std::uint32_t page) const { return holds(page, page); }

  std::unique_ptr<Device> device_;
  Bytes page_;
  std::vector<std::byte> image_;
  std::unique_ptr<BackingStore> store_;
};

TEST_P(DeviceContract, CopiedPageIsReadAtItsAddress) {
  create_frames(1);
  for (std::uint32_t page = 0; page < kPages; ++page) {
    map(page, 0);
    EXPECT_EQ(finish(copy(page)).failure, nullptr);
    EXPECT_TRUE(holds(page)) << "page " << page;
  }
}

TEST_P(DeviceContract, RunOfPagesIsOneCopyIntoScatteredFrames) {
  create_frames(3);
  map(3, 2);
  map(4, 0);
  map(5, 1);
  finish(device_->copies().copy(*store_, {{3}, 3}));
  EXPECT_TRUE(holds(3) && holds(4) && holds(5));
  EXPECT_EQ(device_->copies().statistics().copies, 1U);
  EXPECT_EQ(device_->copies().statistics().copied, page_ * 3 - Bytes{100});
}

TEST_P(DeviceContract, RunIsMappedOverWhatWasMappedThere) {
  create_frames(4);
  map(2, 3);
  map(4, 0);
  map(5, 1);
  const std::vector<FrameIndex> frames = {{1}, {2}, {0}, {3}};
  device_->range().unmap({2}, 1);
  device_->range().map({2}, frames);
  finish(device_->copies().copy(*store_, {{2}, 4}));
  EXPECT_TRUE(holds(2) && holds(3) && holds(4) && holds(5));
}

TEST_P(DeviceContract, FormerMappingIsReplaced) {
  create_frames(2);
  map(2, 0);
  finish(copy(2));
  map(3, 0);
  finish(copy(3));
  map(2, 1);
  finish(copy(2));
  EXPECT_TRUE(holds(2) && holds(3));
}

TEST_P(DeviceContract, PagesThatShareAFrameShareItsBytes) {
  create_frames(2);
  map(1, 0);
  map(3, 0);
  map(4, 0);
  finish(copy(3));
  EXPECT_TRUE(holds(1, 3) && holds(3) && holds(4, 3));
  device_->range().unmap({3}, 1);
  EXPECT_TRUE(holds(1, 3) && holds(4, 3)) << "the others keep the frame";
  map(4, 1);
  finish(copy(4));
  EXPECT_TRUE(holds(1, 3) && holds(4));
}

TEST_P(DeviceContract, PagesThatPointNowhereCanBeUnmapped) {
  create_frames(2);
  map(1, 0);
  map(3, 1);
  device_->range().unmap({0}, kPages);
  device_->range().unmap({0}, kPages);
  map(3, 0);
  finish(copy(3));
  EXPECT_TRUE(holds(3));
}

TEST_P(DeviceContract, CopiesEndInOrderAndAreTakenOnce) {
  create_frames(2);
  map(0, 0);
  map(1, 1);
  const CopyId first = copy(0);
  const CopyId second = copy(1);
  EXPECT_LT(first, second);
  EXPECT_EQ(next_ended().id, first);
  EXPECT_EQ(next_ended().id, second);
  EXPECT_FALSE(device_->copies().take_ended().has_value());
}

TEST_P(DeviceContract, FailedCopySaysWhyOnceAndLaterCopiesGoOn) {
  const BadSectorStore faulty(*store_, page_ * 1);
  create_frames(2);
  map(1, 0);
  map(2, 1);
  const CopyId bad = device_->copies().copy(faulty, {{1}, 1});
  const CopyId good = device_->copies().copy(faulty, {{2}, 1});
  const EndedCopy failed = next_ended();
  EXPECT_EQ(failed.id, bad);
  ASSERT_NE(failed.failure, nullptr);
  EXPECT_THROW(std::rethrow_exception(failed.failure), StoreError);
  const EndedCopy went_well = next_ended();
  EXPECT_EQ(went_well.id, good);
  EXPECT_EQ(went_well.failure, nullptr);
  EXPECT_FALSE(device_->copies().take_ended().has_value()) << "the failure is forgotten";
  EXPECT_TRUE(holds(2));
}

TEST_P(DeviceContract, StreamThatWaitsForAFailedCopyGoesOn) {
  const BadSectorStore faulty(*store_, page_ * 1);
  create_frames(1);
  map(1, 0);
  const CopyId bad = device_->copies().copy(faulty, {{1}, 1});
  device_->copies().wait({}, bad);
  EXPECT_NE(finish(bad).failure, nullptr);
}

TEST_P(DeviceContract, ProgressIsAnnounced) {
  std::atomic<int> announced = 0;
  device_->on_progress([&] { ++announced; });
  create_frames(1);
  map(0, 0);
  finish(copy(0));
  while (announced == 0) std::this_thread::yield();
  device_->on_progress({});
  EXPECT_GE(announced, 1);
}

TEST_P(DeviceContract, MemoryIsCountedAndReturned) {
  const Bytes before = device_->memory().current;
  create_frames(1);
  {
    const DeviceBuffer buffer = device_->allocate(MiB(1));
    EXPECT_EQ(device_->memory().current, before + page_ + MiB(1));
  }
  device_->range().destroy_frame({0});
  EXPECT_EQ(device_->memory().current, before);
  EXPECT_EQ(device_->memory().peak, before + page_ + MiB(1));
}

TEST_P(DeviceContract, DestroyedFrameCanBeCreatedAgain) {
  for (int round = 0; round < 3; ++round) {
    device_->range().create_frame({1});
    map(0, 1);
    finish(copy(0));
    EXPECT_TRUE(holds(0));
    device_->range().unmap({0}, 1);
    device_->range().destroy_frame({1});
  }
}

TEST_P(DeviceContract, OneStreamIsOneStream) {
  const StreamClock& clock = device_->clock();
  EXPECT_EQ(clock.identify({}), clock.identify({}));
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
    device->range().reserve({.image = {image_.size()}, .page = kPage});
    device->range().create_frame({0});
    map(*device, 0, 0);
    return device;
  }
  static void map(Device& device, std::uint32_t page, std::uint32_t frame) {
    const FrameIndex frames[] = {{frame}};
    device.range().map({page}, frames);
  }
  /// The first page, brought in.
  void fill(Device& device) { device.copies().wait({}, device.copies().copy(store_, {{0}, 1})); }

  std::vector<std::byte> image_;
  MemoryStore store_;
};

HostDeviceOptions slow_link(std::chrono::nanoseconds latency) {
  return {.link_bytes_per_second = 0, .link_latency = latency, .trace = nullptr};
}

TEST_F(HostDeviceTest, StreamWaitsForTheCopyAndTheCallerDoesNot) {
  const auto device = make(slow_link(std::chrono::milliseconds(50)));
  HostStream stream;
  const CopyId copy = device->copies().copy(store_, {{0}, 1});
  device->copies().wait(stream.ref(), copy);
  bool copied_first = false;
  stream.launch([&] { copied_first = device->copies().take_ended().has_value(); });
  const std::optional<FenceId> fence = device->clock().record(stream.ref());
  ASSERT_TRUE(fence.has_value());
  EXPECT_TRUE(device->clock().take_passed().empty()) << "the caller waited for the copy";
  stream.synchronize();
  EXPECT_EQ(device->clock().take_passed(), std::vector{*fence});
  EXPECT_TRUE(device->clock().take_passed().empty()) << "a fence is taken once";
  EXPECT_TRUE(copied_first);
}

TEST_F(HostDeviceTest, CallingThreadHasDoneItsWorkWhenItRecords) {
  const auto device = make();
  EXPECT_FALSE(device->clock().record({}).has_value());
  EXPECT_TRUE(device->clock().take_stamp(device->clock().stamp({})).has_value());
}

TEST_F(HostDeviceTest, EveryThreadIsAStreamAndSoIsEveryHostStream) {
  const auto device = make();
  const StreamClock& clock = device->clock();
  HostStream one;
  HostStream other;
  StreamId thread{};
  std::thread([&] { thread = clock.identify({}); }).join();
  EXPECT_NE(thread, clock.identify({}));
  EXPECT_EQ(clock.identify(one.ref()), clock.identify(one.ref()));
  EXPECT_NE(clock.identify(one.ref()), clock.identify(other.ref()));
  EXPECT_NE(clock.identify(one.ref()), clock.identify({}));
}

TEST_F(HostDeviceTest, StampIsAnnouncedWhenTheStreamGetsThere) {
  const auto device = make();
  std::promise<void> told;
  device->on_progress([&] { told.set_value(); });
  HostStream stream;
  std::promise<void> gate;
  stream.launch([&] { gate.get_future().wait(); });
  const StampId stamp = device->clock().stamp(stream.ref());
  EXPECT_FALSE(device->clock().take_stamp(stamp).has_value());
  const Trace::Time before = Trace::Clock::now();
  gate.set_value();
  told.get_future().wait();
  const std::optional<Trace::Time> when = device->clock().take_stamp(stamp);
  ASSERT_TRUE(when.has_value());
  EXPECT_GE(*when, before);
  EXPECT_FALSE(device->clock().take_stamp(stamp).has_value()) << "a stamp is taken once";
  device->on_progress({});
}

TEST_F(HostDeviceTest, StreamMayOutliveTheDeviceThatItWaitedFor) {
  HostStream stream;
  std::promise<void> gate;
  stream.launch([&] { gate.get_future().wait(); });
  {
    const auto device = make(slow_link(std::chrono::milliseconds(20)));
    device->copies().wait(stream.ref(), device->copies().copy(store_, {{0}, 1}));
    device->clock().record(stream.ref());
    device->clock().stamp(stream.ref());
  }
  gate.set_value();
  stream.synchronize();
}

TEST_F(HostDeviceTest, LinkRateIsKept) {
  const auto device = make({.link_bytes_per_second = 1e6, .link_latency = {}, .trace = nullptr});
  fill(*device);
  EXPECT_GE(device->link().busy, std::chrono::microseconds(65536));
}

// A child process has pages of a device of its own alone.
TEST_F(HostDeviceTest, PageThatWasNeverBroughtInFaults) {
  EXPECT_DEATH(
      {
        const auto device = make();
        fill(*device);
        const volatile std::byte value = device->range().base()[kPage.count];
        (void)value;
      },
      "");
}

TEST_F(HostDeviceTest, WritingToAPageFaults) {
  EXPECT_DEATH(
      {
        const auto device = make();
        fill(*device);
        device->range().base()[0] = std::byte{1};
      },
      "");
}

TEST_F(HostDeviceTest, CopiesAreTraced) {
  Trace trace;
  const auto device = make({.link_bytes_per_second = 0, .link_latency = {}, .trace = &trace});
  fill(*device);
  std::ostringstream out;
  trace.write(out);
  EXPECT_NE(out.str().find("pages 0 to 0, 65536 bytes"), std::string::npos) << out.str();
}

/// A limit of this process, lowered for a while.
class Limit {
 public:
  Limit(decltype(RLIMIT_AS) resource, Bytes limit) : resource_(resource) {
    ::getrlimit(resource_, &former_);
    ::rlimit lowered = former_;
    lowered.rlim_cur = limit.count;
    ::setrlimit(resource_, &lowered);
  }
  ~Limit() { ::setrlimit(resource_, &former_); }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;

 private:
  decltype(RLIMIT_AS) resource_;
  ::rlimit former_{};
};

/// Addresses that this process has taken.
Bytes addresses_in_use() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t pages = 0;
  statm >> pages;
  return Bytes{static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))} * pages;
}

class RefusedFrame : public HostDeviceTest {
 protected:
  static constexpr Bytes kFrame = MiB(16);

  RefusedFrame() : pages_(kFrame.count * 2, std::byte{7}) {
    device_->range().reserve({.image = {pages_.size()}, .page = kFrame});
    device_->range().create_frame({0});
    map(*device_, 0, 0);
  }

  std::string refusal() {
    try {
      device_->range().create_frame({1});
    } catch (const DeviceError& error) {
      return error.what();
    }
    return "";
  }
  void expect_everything_as_it_was() {
    EXPECT_EQ(device_->memory().current, kFrame);
    EXPECT_EQ(device_->memory().peak, kFrame);
    device_->range().create_frame({1});
    map(*device_, 1, 1);
    const MemoryStore store(pages_);
    device_->copies().wait({}, device_->copies().copy(store, {{0}, 2}));
    EXPECT_EQ(std::memcmp(device_->range().base(), pages_.data(), pages_.size()), 0);
    EXPECT_EQ(device_->memory().current, kFrame * 2);
  }

  std::vector<std::byte> pages_;
  std::unique_ptr<Device> device_ = make_host_device();
};

TEST_F(RefusedFrame, WithoutMemoryLeavesEverythingAsItWas) {
  const auto former = std::signal(SIGXFSZ, SIG_IGN);
  std::string message;
  {
    const Limit limit(RLIMIT_FSIZE, kFrame);  // the arena is a file without a name
    message = refusal();
  }
  std::signal(SIGXFSZ, former);
  EXPECT_NE(message.find("a frame of 16777216 bytes failed"), std::string::npos) << message;
  EXPECT_NE(message.find("of host memory are available"), std::string::npos) << message;
  EXPECT_NE(message.find("give the arena less"), std::string::npos) << message;
  expect_everything_as_it_was();
}

TEST_F(RefusedFrame, WithoutAddressesLeavesEverythingAsItWas) {
  std::string message;
  {
    const Limit limit(RLIMIT_AS, addresses_in_use() + kFrame - MiB(1));
    message = refusal();
  }
  EXPECT_NE(message.find("mmap of a frame of 16777216 bytes failed"), std::string::npos) << message;
  expect_everything_as_it_was();
}

/// Forks, and waits for the child, which returns `work`'s result. A child that hangs is ended.
int in_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(work());
  for (int tries = 0; tries < 1000; ++tries) {
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child)
      return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ADD_FAILURE() << "the child process hung";
  return -SIGKILL;
}

/// How many of the calls do not throw Error.
int allowed(std::initializer_list<std::function<void()>> calls) {
  int allowed = 0;
  for (const auto& call : calls) {
    try {
      call();
      ++allowed;
    } catch (const Error&) {
    }
  }
  return allowed;
}

TEST_F(HostDeviceTest, ChildProcessIsRefusedEveryCall) {
  auto device = make(slow_link(std::chrono::milliseconds(20)));
  const CopyId copy = device->copies().copy(store_, {{0}, 1});  // the child is forked meanwhile
  AddressRange& range = device->range();
  CopyEngine& copies = device->copies();
  StreamClock& clock = device->clock();
  EXPECT_EQ(in_child([&] {
              return allowed({[&] { device->info(); },
                              [&] { device->memory(); },
                              [&] { device->link(); },
                              [&] { device->on_progress({}); },
                              [&] { device->allocate(kPage); },
                              [&] { range.reserve({}); },
                              [&] { range.base(); },
                              [&] { range.create_frame({1}); },
                              [&] { range.destroy_frame({0}); },
                              [&] { map(*device, 1, 0); },
                              [&] { range.unmap({0}, 1); },
                              [&] {
                                copies.copy(store_, {{0}, 1});
                              },
                              [&] { copies.take_ended(); },
                              [&] { copies.wait({}, copy); },
                              [&] { copies.statistics(); },
                              [&] { clock.identify({}); },
                              [&] { clock.record({}); },
                              [&] { clock.take_passed(); },
                              [&] { clock.stamp({}); },
                              [&] { clock.take_stamp(StampId{1}); }});
            }),
            0);
  device->copies().wait({}, copy);
  EXPECT_EQ(std::memcmp(device->range().base(), image_.data(), kPage.count), 0);
}

TEST_F(HostDeviceTest, ChildProcessDestroysItsCopyAndTheParentDoesNotNotice) {
  auto device = make(slow_link(std::chrono::milliseconds(20)));
  auto buffer = std::make_unique<DeviceBuffer>(device->allocate(kPage));
  const CopyId copy = device->copies().copy(store_, {{0}, 1});
  EXPECT_EQ(in_child([&] {
              buffer.reset();
              device.reset();
              return 0;
            }),
            0);
  device->copies().wait({}, copy);
  EXPECT_EQ(std::memcmp(device->range().base(), image_.data(), kPage.count), 0);
  EXPECT_EQ(device->memory().current, kPage * 2);
}

TEST_F(HostDeviceTest, ChildProcessInheritsNoPage) {
  const auto device = make();
  fill(*device);
  const volatile std::byte* const page = device->range().base();
  EXPECT_DEATH({ (void)*page; }, "");
}

TEST_F(HostDeviceTest, ChildProcessMakesADeviceOfItsOwn) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer lets no child of a process with threads start any";
#endif
  const auto device = make();
  EXPECT_EQ(in_child([&] {
              const auto own = make();
              fill(*own);
              return std::memcmp(own->range().base(), image_.data(), kPage.count);
            }),
            0);
}

TEST(HostStreamTest, ChildProcessIsRefusedEveryCallAndDestroysItsCopy) {
  auto stream = std::make_unique<HostStream>();
  std::promise<void> gate;
  stream->launch([&] { gate.get_future().wait(); });  // the child is forked meanwhile
  EXPECT_EQ(
      in_child([&] {
        const int calls = allowed({[&] { stream->launch([] {}); }, [&] { stream->synchronize(); }});
        stream.reset();
        return calls;
      }),
      0);
  gate.set_value();
  bool ran = false;
  stream->launch([&] { ran = true; });
  stream->synchronize();
  EXPECT_TRUE(ran);
}

}  // namespace
}  // namespace tensor_pager::testing
