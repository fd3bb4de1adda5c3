// What every backing store promises, and what files add.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pager/errors.hpp"
#include "pager/mapped_file_store.hpp"
#include "pager/memory_store.hpp"

namespace tensor_pager::testing {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
  return bytes;
}

/// A directory that goes away with its files.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "tensor-pager-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }

  std::filesystem::path write(const std::string& name, std::span<const std::byte> bytes) const {
    std::ofstream(path_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

struct Fixture {
  TemporaryDirectory directory;
  std::vector<std::byte> bytes = pattern(100'000);
};
using MakeStore = std::function<std::unique_ptr<BackingStore>(const Fixture&)>;

class StoreContract : public ::testing::TestWithParam<MakeStore> {
 protected:
  StoreContract() : store_(GetParam()(fixture_)) {}
  Fixture fixture_;
  std::unique_ptr<BackingStore> store_;
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

TEST_P(StoreContract, DataIsTheImage) {
  ASSERT_NE(store_->data(), nullptr);
  EXPECT_EQ(std::memcmp(store_->data(), fixture_.bytes.data(), fixture_.bytes.size()), 0);
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
                           return std::make_unique<MemoryStore>(fixture.bytes);
                         })));
INSTANTIATE_TEST_SUITE_P(MappedFile, StoreContract,
                         ::testing::Values(MakeStore([](const Fixture& fixture) {
                           return std::make_unique<MappedFileStore>(
                               std::vector{fixture.directory.write("image", fixture.bytes)});
                         })));

TEST(MappedFileStore, FilesLieSideBySideAtAlignedOffsets) {
  const TemporaryDirectory directory;
  const auto first = pattern(5000);
  const auto second = pattern(300);
  const MappedFileStore store({directory.write("a", first), directory.write("b", second)});
  EXPECT_EQ(store.file_offset(1), Bytes{8192});
  EXPECT_EQ(store.size(), Bytes{8192 + 300});
  std::vector<std::byte> across(8192 + 300 - 4990);
  store.read({4990}, across);
  EXPECT_EQ(std::memcmp(across.data(), first.data() + 4990, 10), 0);
  EXPECT_EQ(across[10], std::byte{0});
  EXPECT_EQ(std::memcmp(across.data() + 8192 - 4990, second.data(), second.size()), 0);
  EXPECT_EQ(std::memcmp(store.data() + 4990, across.data(), across.size()), 0);
}

TEST(MappedFileStore, FileTruncatedWhileInUseIsAnErrorThatNamesIt) {
  const TemporaryDirectory directory;
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
  const TemporaryDirectory directory;
  const auto empty = directory.write("empty", {});
  EXPECT_THROW(MappedFileStore({empty}), StoreError);
  EXPECT_THROW(MappedFileStore({empty.parent_path()}), StoreError);
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
