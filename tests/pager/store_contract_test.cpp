// SPDX-License-Identifier: Apache-2.0
// What every backing store promises, and what files add.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "../temporary_directory.hpp"
#include "pager/errors.hpp"
#include "pager/mapped_file_store.hpp"
#include "pager/memory_store.hpp"

#ifdef TENSOR_PAGER_CUDA
#include "pager/cuda_device.hpp"
#include "pager/pinned_store.hpp"
#endif

namespace tensor_pager::testing {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
  return bytes;
}

/// A directory that goes away with its files.
class Directory : public tests::TemporaryDirectory {
 public:
  std::filesystem::path write(const std::string& name, std::span<const std::byte> bytes) const {
    return TemporaryDirectory::write(
        name, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
};

struct Fixture {
  Directory directory;
  std::vector<std::byte> bytes = pattern(100'000);
};
/// Returns nullptr where the machine has no such store.
using MakeStore = std::function<std::shared_ptr<const BackingStore>(const Fixture&)>;

class StoreContract : public ::testing::TestWithParam<MakeStore> {
 protected:
  void SetUp() override {
    store_ = GetParam()(fixture_);
    if (!store_) GTEST_SKIP() << "no such store on this machine";
  }
  Fixture fixture_;
  std::shared_ptr<const BackingStore> store_;
};

TEST_P(StoreContract, ReadsAnyRangeOfTheImage) {
  ASSERT_EQ(store_->size(), Bytes{fixture_.bytes.size()});
  for (const auto& [offset, size] : {std::pair<std::size_t, std::size_t>{0, 100'000},
                                     {4095, 2},
                                     {99'999, 1},
                                     {0, 0},
                                     {100'000, 0}}) {
    std::vector<std::byte> out(size);
    store_->read({offset}, out);
    EXPECT_TRUE(std::equal(out.begin(), out.end(),
                           fixture_.bytes.begin() + static_cast<std::ptrdiff_t>(offset)));
  }
}

TEST_P(StoreContract, RangeOutsideTheImageIsAnError) {
  std::vector<std::byte> out(2);
  EXPECT_THROW(store_->read({99'999}, out), StoreError);
  EXPECT_THROW(store_->read({~0ULL}, out), StoreError);
}

/// Adds up what is announced.
class Listener {
 public:
  explicit Listener(const BackingStore& store)
      : subscription_(store.announce([this](ByteRange range) { add(range); })) {}

  void wait_for(Bytes total) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return announced_ == total; });
  }
  void end() { subscription_.end(); }
  Bytes announced() {
    const std::lock_guard lock(mutex_);
    return announced_;
  }

 private:
  void add(ByteRange range) {
    const std::lock_guard lock(mutex_);
    announced_ += range.size;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  Bytes announced_;
  Subscription subscription_;  // last: what it calls uses all of the above
};

TEST_P(StoreContract, DataIsTheImageOnceItWasAnnounced) {
  Listener(*store_).wait_for(store_->size());
  ASSERT_NE(store_->data(), nullptr);
  EXPECT_EQ(std::memcmp(store_->data(), fixture_.bytes.data(), fixture_.bytes.size()), 0);
}

TEST_P(StoreContract, AddressIsWhereTheBytesAre) {
  const auto holds = [&](std::size_t offset, std::size_t size) {
    const std::byte* const at = store_->address({{offset}, {size}});
    ASSERT_NE(at, nullptr);
    EXPECT_EQ(std::memcmp(at, fixture_.bytes.data() + offset, size), 0);
  };
  holds(4095, 2);  // also while it is being pinned
  Listener(*store_).wait_for(store_->size());
  holds(0, 100'000);
  holds(99'999, 1);
  EXPECT_THROW(static_cast<void>(store_->address({{99'999}, {2}})), StoreError);
  EXPECT_THROW(static_cast<void>(store_->address({{~0ULL}, {1}})), StoreError);
}

TEST_P(StoreContract, EveryListenerIsToldEverything) {
  Listener first(*store_);
  Listener second(*store_);
  second.wait_for(store_->size());
  Listener late(*store_);
  first.wait_for(store_->size());
  EXPECT_EQ(late.announced(), store_->size()) << "what was there already is announced at once";
}

TEST_P(StoreContract, EndedSubscriptionIsSilent) {
  Listener ended(*store_);
  ended.end();
  const Bytes before = ended.announced();
  Listener other(*store_);
  other.wait_for(store_->size());
  EXPECT_EQ(ended.announced(), before);
}

TEST_P(StoreContract, ManyThreadsReadAtOnce) {
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::byte> out(1000);
      for (std::size_t at = t * 100; at + out.size() <= fixture_.bytes.size(); at += 3000) {
        store_->read({at}, out);
        wrong[t] += std::memcmp(out.data(), fixture_.bytes.data() + at, out.size()) != 0 ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

INSTANTIATE_TEST_SUITE_P(Memory, StoreContract,
                         ::testing::Values(MakeStore([](const Fixture& fixture) {
                           return std::make_shared<const MemoryStore>(fixture.bytes);
                         })));
INSTANTIATE_TEST_SUITE_P(MappedFile, StoreContract,
                         ::testing::Values(MakeStore([](const Fixture& fixture) {
                           return std::make_shared<const MappedFileStore>(
                               std::vector{fixture.directory.write("image", fixture.bytes)});
                         })));

#ifdef TENSOR_PAGER_CUDA
std::shared_ptr<const BackingStore> pinned(const Fixture& fixture, bool pin_files) {
  if (cuda_device_count() == 0) return nullptr;
  const PinnedStore made = make_pinned_store({fixture.directory.write("image", fixture.bytes)},
                                             {.pin_files = pin_files});
  EXPECT_EQ(made.description.substr(0, 11), pin_files ? "pinned file" : "pinned copy")
      << made.description;
  return made.store;
}
INSTANTIATE_TEST_SUITE_P(PinnedFile, StoreContract,
                         ::testing::Values(MakeStore([](const Fixture& fixture) {
                           return pinned(fixture, true);
                         })));
INSTANTIATE_TEST_SUITE_P(PinnedCopy, StoreContract,
                         ::testing::Values(MakeStore([](const Fixture& fixture) {
                           return pinned(fixture, false);
                         })));

TEST(PinnedStore, EveryByteOfTwoFilesIsPinnedAndInPlace) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU on this machine";
  const Directory directory;
  const auto first = pattern(5000);
  const auto second = pattern(9000);
  const std::vector<std::filesystem::path> files = {directory.write("a", first),
                                                    directory.write("b", second)};
  for (const bool pin_files : {true, false}) {
    const auto store = make_pinned_store(files, {.pin_files = pin_files}).store;
    Listener(*store).wait_for(store->size());
    EXPECT_EQ(store->pinned({0}, store->size()), Bytes{8192})
        << "one piece does not reach into the next file";
    EXPECT_EQ(store->pinned({8192}, Bytes{9000}), Bytes{9000});
    EXPECT_EQ(std::memcmp(store->data() + 8192, second.data(), second.size()), 0);
  }
}
#endif

TEST(MappedFileStore, FilesLieSideBySideAtAlignedOffsets) {
  const Directory directory;
  const auto first = pattern(5000);
  const auto second = pattern(300);
  const MappedFileStore store({directory.write("a", first), directory.write("b", second)});
  EXPECT_EQ(store.file_range(1).offset, Bytes{8192});
  EXPECT_EQ(store.size(), Bytes{8192 + 300});
  std::vector<std::byte> across(8192 + 300 - 4990);
  store.read({4990}, across);
  EXPECT_EQ(std::memcmp(across.data(), first.data() + 4990, 10), 0);
  EXPECT_EQ(across[10], std::byte{0});
  EXPECT_EQ(std::memcmp(across.data() + 8192 - 4990, second.data(), second.size()), 0);
  EXPECT_EQ(std::memcmp(store.data() + 4990, across.data(), across.size()), 0);
}

TEST(MappedFileStore, PiecesSayWhichFileHasWhat) {
  const Directory directory;
  const MappedFileStore store({directory.write("a", pattern(5000)),
                               directory.write("b", pattern(300)),
                               directory.write("c", pattern(9000))});
  const auto images = [&](ByteRange range) {
    std::vector<ByteRange> found;
    for (const FilePiece& piece : store.pieces(range)) found.push_back(piece.image);
    return found;
  };
  using Ranges = std::vector<ByteRange>;
  EXPECT_EQ(images({{0}, store.size()}),
            (Ranges{{{0}, {5000}}, {{8192}, {300}}, {{12288}, {9000}}}));
  EXPECT_EQ(images({{4096}, {8192}}), (Ranges{{{4096}, {904}}, {{8192}, {300}}}));
  EXPECT_EQ(images({{5000}, {3192}}), Ranges{}) << "between two files";
  EXPECT_EQ(images({{16384}, {100}}), (Ranges{{{16384}, {100}}}));
  EXPECT_EQ(images({{5}, {0}}), Ranges{});
  EXPECT_EQ(images({store.size(), {0}}), Ranges{});
  EXPECT_THROW(images({{16384}, {9000}}), StoreError);

  const std::vector<FilePiece> last = store.pieces({{16384}, {100}});
  EXPECT_EQ(last.front().offset, Bytes{4096}) << "in its file";
  std::byte found{};
  ASSERT_EQ(::pread(last.front().descriptor, &found, 1, 4096), 1);
  EXPECT_EQ(found, pattern(9000)[4096]);
}

TEST(MappedFileStore, FileThatBecameTooShortIsIncompleteWhereItIs) {
  const Directory directory;
  const auto path = directory.write("model.gguf", pattern(50'000));
  const MappedFileStore store({path});
  EXPECT_NO_THROW(store.require_complete({{0}, store.size()}));
  std::filesystem::resize_file(path, 20'000);
  EXPECT_NO_THROW(store.require_complete({{0}, {20'000}}));
  EXPECT_THROW(store.require_complete({{0}, {20'001}}), StoreError);
  EXPECT_THROW(store.require_complete({{30'000}, {1}}), StoreError);
}

TEST(MappedFileStore, FileTruncatedWhileInUseIsAnErrorThatNamesIt) {
  const Directory directory;
  const auto path = directory.write("model.gguf", pattern(50'000));
  const MappedFileStore store({path});
  std::filesystem::resize_file(path, 20'000);
  std::vector<std::byte> out(30'000);
  try {
    store.read({10'000}, out);
    FAIL();
  } catch (const StoreError& error) {
    EXPECT_THAT(error.what(), HasSubstr("model.gguf"));
    EXPECT_THAT(error.what(), HasSubstr("truncated"));
  }
}

TEST(MappedFileStore, FilesThatCannotServeAreNamed) {
  const Directory directory;
  const auto empty = directory.write("empty", {});
  EXPECT_THROW(MappedFileStore({empty}), StoreError);
  EXPECT_THROW(MappedFileStore({empty.parent_path()}), StoreError);
  const auto pipe = empty.parent_path() / "pipe";  // which nobody writes to
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(MappedFileStore({pipe}), StoreError);
  EXPECT_THROW(MappedFileStore(std::vector<std::filesystem::path>{}), StoreError);
  try {
    MappedFileStore({empty.parent_path() / "missing"});
    FAIL();
  } catch (const StoreError& error) {
    EXPECT_THAT(error.what(), HasSubstr("missing failed: No such file"));
  }
}

}  // namespace
}  // namespace tensor_pager::testing
