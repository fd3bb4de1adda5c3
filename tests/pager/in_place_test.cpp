// SPDX-License-Identifier: Apache-2.0
// What the device promises whose pages are the files themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../temporary_directory.hpp"
#include "pager/errors.hpp"
#include "pager/host_device.hpp"
#include "pager/pager.hpp"

namespace tensor_pager::testing {
namespace {

using ::testing::HasSubstr;

std::string pattern(std::size_t size, std::size_t seed) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 + i / 251 + seed);
  return bytes;
}

/// Of this process: anonymous and shared memory, which is what a copy of the weights would be.
Bytes own_memory() {
  std::ifstream status("/proc/self/status");
  Bytes sum;
  std::string name;
  while (status >> name) {
    std::uint64_t kibibytes = 0;
    if (name == "RssAnon:" || name == "RssShmem:") {
      status >> kibibytes;
      sum += KiB(kibibytes);
    }
  }
  return sum;
}

// Three files, none of which ends where a page does; a page has parts of two files and the gap.
class InPlaceDevice : public ::testing::Test {
 protected:
  static constexpr Bytes kPage = KiB(16);

  InPlaceDevice() {
    for (const std::size_t size : {70'000U, 300U, 45'000U}) {
      const std::string name = "part" + std::to_string(paths_.size());
      paths_.push_back(directory_.write(name, pattern(size, paths_.size())));
    }
    store_ = std::make_shared<const MappedFileStore>(paths_);
    image_.resize(store_->size().count);
    store_->read({0}, image_);
  }

  PageLayout layout() const { return {.image = store_->size(), .page = kPage}; }
  std::unique_ptr<Device> make() const {
    auto device = make_in_place_device(store_);
    device->range().reserve(layout());
    return device;
  }
  static void map(Device& device, std::uint32_t page, std::uint32_t frame) {
    const FrameIndex frames[] = {{frame}};
    device.range().map({page}, frames);
  }
  EndedCopy bring_in(Device& device, PageRun pages) const {
    const CopyId copy = device.copies().copy(*store_, pages);
    device.copies().wait({}, copy);
    return device.copies().take_ended().value();
  }
  bool holds(Device& device, std::uint32_t page) const {
    const ByteRange bytes = layout().bytes_of({page});
    return std::memcmp(device.range().base() + bytes.offset.count,
                       image_.data() + bytes.offset.count, bytes.size.count) == 0;
  }

  tests::TemporaryDirectory directory_;
  std::vector<std::filesystem::path> paths_;
  std::shared_ptr<const MappedFileStore> store_;
  std::vector<std::byte> image_;
};

TEST_F(InPlaceDevice, PagesAreTheImageAlsoAcrossFiles) {
  const auto device = make();
  std::vector<FrameIndex> frames;
  for (std::uint32_t i = 0; i < layout().page_count(); ++i) {
    device->range().create_frame({i});
    frames.push_back({i});
  }
  device->range().map({0}, frames);
  EXPECT_EQ(bring_in(*device, {{0}, layout().page_count()}).failure, nullptr);
  EXPECT_EQ(std::memcmp(device->range().base(), image_.data(), image_.size()), 0);
  EXPECT_EQ(device->copies().statistics().copies, 1U);
  EXPECT_EQ(device->copies().statistics().copied, Bytes{0});
}

TEST_F(InPlaceDevice, EachPageKeepsItsBytesWhateverFrameItHas) {
  const auto device = make();
  device->range().create_frame({0});
  for (const std::uint32_t page : {4U, 1U, 5U}) {
    map(*device, page, 0);
    bring_in(*device, {{page}, 1});
  }
  EXPECT_TRUE(holds(*device, 4) && holds(*device, 1) && holds(*device, 5));
  device->range().unmap({1}, 1);
  map(*device, 1, 0);
  EXPECT_TRUE(holds(*device, 4) && holds(*device, 1) && holds(*device, 5));
}

TEST_F(InPlaceDevice, FramesAreCounted) {
  const auto device = make();
  device->range().create_frame({0});
  device->range().create_frame({1});
  EXPECT_EQ(device->memory().current, kPage * 2);
  device->range().destroy_frame({0});
  EXPECT_EQ(device->memory().current, kPage);
  EXPECT_EQ(device->memory().peak, kPage * 2);
}

TEST_F(InPlaceDevice, PagesCannotBeWrittenOrReadWhereNothingIsMapped) {
  const auto device = make();
  volatile std::byte* const base = device->range().base();
  device->range().create_frame({0});
  map(*device, 1, 0);
  bring_in(*device, {{1}, 1});
  (void)base[kPage.count];
  EXPECT_DEATH({ (void)base[0]; }, "");
  EXPECT_DEATH({ base[kPage.count] = std::byte{1}; }, "");
  device->range().unmap({1}, 1);
  EXPECT_DEATH({ (void)base[kPage.count]; }, "");
}

TEST_F(InPlaceDevice, ChildProcessInheritsNoPage) {
  const auto device = make();
  device->range().create_frame({0});
  map(*device, 0, 0);
  bring_in(*device, {{0}, 1});
  const volatile std::byte* const page = device->range().base();
  (void)*page;
  const pid_t child = ::fork();
  if (child == 0) {
    (void)*page;
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) != 0) << "the child could read the page";
}

TEST_F(InPlaceDevice, FileThatIsTooShortWhenAPageComesIsAStoreError) {
  const auto device = make();
  for (std::uint32_t i = 0; i < 2; ++i) device->range().create_frame({i});
  map(*device, 0, 0);
  map(*device, 3, 1);
  std::filesystem::resize_file(paths_[0], 50'000);
  EXPECT_EQ(bring_in(*device, {{0}, 1}).failure, nullptr) << "what is left can be read";
  const EndedCopy ended = bring_in(*device, {{3}, 1});
  ASSERT_NE(ended.failure, nullptr);
  try {
    std::rethrow_exception(ended.failure);
  } catch (const StoreError& error) {
    EXPECT_THAT(error.what(), HasSubstr("part0"));
    EXPECT_THAT(error.what(), HasSubstr("truncated"));
  }
}

TEST_F(InPlaceDevice, AnotherImageIsRefused) {
  const auto device = make_in_place_device(store_);
  try {
    device->range().reserve({.image = store_->size() + KiB(1), .page = kPage});
    FAIL();
  } catch (const DeviceError& error) {
    EXPECT_THAT(error.what(), HasSubstr("the store that the device was made with"));
  }
  EXPECT_THROW(make_in_place_device(nullptr), Error);
}

// Any budget, although it is meant for those that hold all.
TEST_F(InPlaceDevice, PagerServesEveryStepAtEveryBudget) {
  for (const std::uint64_t frames : {2U, 4U, 8U}) {
    SCOPED_TRACE(frames);
    Pager pager(make_in_place_device(store_), store_, {.arena = kPage * frames, .page = kPage});
    AccessPlan plan;
    for (std::uint32_t page = 0; page < layout().page_count(); ++page) {
      plan.steps.push_back({.reads = {layout().bytes_of({page})}, .name = "page"});
    }
    pager.set_plan(plan);
    for (std::uint32_t step = 0; step < 3 * plan.steps.size(); ++step) {
      const StepIndex index{step % static_cast<std::uint32_t>(plan.steps.size())};
      const Lease lease = pager.acquire(index);
      const ByteRange bytes = plan.steps[index.value].reads.front();
      EXPECT_EQ(std::memcmp(pager.address(bytes.offset), image_.data() + bytes.offset.count,
                            bytes.size.count),
                0);
    }
    pager.evict_all();
    EXPECT_EQ(pager.statistics().resident_pages, 0U);
    pager.acquire(StepIndex{1});
    pager.settle();
    EXPECT_EQ(pager.statistics().link.copied, Bytes{0});
    EXPECT_GT(pager.statistics().core.loads, 0U);
  }
}

TEST(InPlace, ResidentImageTakesNoMemoryOfItsOwn) {
  const tests::TemporaryDirectory directory;
  const Bytes image = MiB(48);
  const auto store = std::make_shared<const MappedFileStore>(
      std::vector{directory.write("image", pattern(image.count, 5))});
  const auto grown = [&](std::unique_ptr<Device> device) {
    const Bytes before = own_memory();
    Pager pager(std::move(device), store, {.arena = image, .page = MiB(1)});
    pager.set_plan({.steps = {{.reads = {{{0}, image}}, .name = "all"}}});
    const Lease lease = pager.acquire(StepIndex{0});
    const Bytes after = own_memory();
    return after > before ? after - before : Bytes{0};
  };
  EXPECT_LT(grown(make_in_place_device(store)), MiB(8));
  EXPECT_GT(grown(make_host_device()), MiB(40)) << "what is measured would notice a copy";
}

}  // namespace
}  // namespace tensor_pager::testing
