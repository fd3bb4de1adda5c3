// SPDX-License-Identifier: Apache-2.0
// Files that appear whole or not at all.
#include "output/replacement_file.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>

#include "../temporary_directory.hpp"

namespace tensor_pager::output {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string content(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class ReplacementFileTest : public testing::Test {
 protected:
  static void write(ReplacementFile& file, const std::string& text) {
    file.write([&](std::ostream& out) { out << text; });
  }
  long files() const {
    return std::distance(fs::directory_iterator(directory_ / "."), fs::directory_iterator());
  }
  static std::string error_of(const fs::path& path) {
    try {
      const ReplacementFile file(path);
    } catch (const OutputError& error) {
      return error.what();
    }
    return "no error";
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(ReplacementFileTest, TakesThePlaceWhenItIsCommitted) {
  const fs::path path = directory_.write("stats", "before");
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  ReplacementFile file(path);
  const std::string long_text(300'000, 'x');
  write(file, long_text);
  EXPECT_EQ(content(path), "before");
  file.commit();
  EXPECT_EQ(content(path), long_text);
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(files(), 1);
}

TEST_F(ReplacementFileTest, LeavesWhatWasThereIfItIsNot) {
  const fs::path path = directory_.write("stats", "before");
  {
    ReplacementFile untouched(path);
    ReplacementFile begun(path);
    write(begun, "half");
  }
  EXPECT_EQ(content(path), "before");
  EXPECT_EQ(files(), 1);
  { ReplacementFile none(directory_ / "new"); }
  EXPECT_EQ(files(), 1);
}

// Of a process that is killed, nothing is left, where the file system has files without a name.
TEST_F(ReplacementFileTest, HasNoNameUntilItIsComplete) {
  const fs::path folder = directory_ / ".";
  const int unnamed = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  const int beside = unnamed < 0 ? 1 : 0;
  if (unnamed >= 0) ::close(unnamed);
  ReplacementFile file(directory_ / "stats");
  write(file, std::string(300'000, 'x'));
  EXPECT_EQ(files(), beside);
  EXPECT_FALSE(fs::exists(directory_ / "stats"));
  file.commit();
  EXPECT_EQ(content(directory_ / "stats").size(), 300'000U);
  EXPECT_EQ(files(), 1);
  const auto fresh = fs::status(directory_ / "stats").permissions();
  EXPECT_EQ(fresh, fs::status(directory_.write("plain", "x")).permissions());
}

TEST_F(ReplacementFileTest, FollowsLinks) {
  const fs::path path = directory_.write("stats", "before");
  const fs::path link = directory_ / "link";
  fs::create_symlink("stats", link);
  ReplacementFile file(link);
  write(file, "after");
  file.commit();
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(content(path), "after");
}

TEST_F(ReplacementFileTest, WritesToAFifoAsToAFile) {
  const std::string path = directory_ / "fifo";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  auto reader = std::async(std::launch::async, [&] { return content(path); });
  {
    ReplacementFile file(path);
    write(file, "through");
    file.commit();
  }
  EXPECT_EQ(reader.get(), "through");
  EXPECT_TRUE(fs::is_fifo(path));
}

// Opened by name, the second text would overwrite the first.
TEST_F(ReplacementFileTest, GoesOnWhereADescriptorIs) {
  const std::string path = directory_ / "shared";
  const int shared = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  ASSERT_EQ(::write(shared, "text\n", 5), 5);
  ReplacementFile file("/dev/fd/" + std::to_string(shared));
  write(file, "{}\n");
  file.commit();
  ::close(shared);
  EXPECT_EQ(content(path), "text\n{}\n");
}

// A pipe has no offsets, and a descriptor that others write to has not ours.
TEST_F(ReplacementFileTest, OffsetsAreThoseOfWhatIsWritten) {
  const auto bytes = [](const std::string& text) { return std::as_bytes(std::span(text)); };
  const auto write_backwards = [&](const std::string& path) {
    ReplacementFile file(path);
    file.write_at(3, bytes("def"));
    file.write_at(0, bytes("abc"));
    file.commit();
  };
  const std::string fifo = directory_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  auto reader = std::async(std::launch::async, [&] { return content(fifo); });
  write_backwards(fifo);
  EXPECT_EQ(reader.get(), "abcdef");

  const std::string path = directory_ / "shared";
  const int shared = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ASSERT_EQ(::write(shared, "text\n", 5), 5);
  write_backwards("/dev/fd/" + std::to_string(shared));
  ::close(shared);
  EXPECT_EQ(content(path), "text\nabcdef");

  write_backwards(directory_ / "file");
  EXPECT_EQ(content(directory_ / "file"), "abcdef");
}

TEST_F(ReplacementFileTest, FailsBeforeAnythingIsWritten) {
  EXPECT_THAT(error_of(directory_ / "no/such/folder/stats"), HasSubstr("No such file"));
  EXPECT_THAT(error_of(directory_ / "."), HasSubstr("Is a directory"));
  EXPECT_THAT(error_of(directory_ / "new/"), HasSubstr("No such file"));
  EXPECT_THAT(error_of(""), HasSubstr("cannot write"));
  EXPECT_THAT(error_of("/dev/fd/999"), HasSubstr("Bad file descriptor"));
  if (::geteuid() != 0) {  // who may do anything
    const fs::path path = directory_.write("read-only", "before");
    fs::permissions(path, fs::perms::owner_read);
    EXPECT_THAT(error_of(path), HasSubstr("Permission denied"));
  }
}

TEST_F(ReplacementFileTest, AFullDeviceIsAnError) {
  ReplacementFile file("/dev/full");
  EXPECT_THROW(write(file, "x"), OutputError);
}

TEST(IsStdout, ByAnyOfItsNames) {
  for (const char* name : {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}) {
    EXPECT_TRUE(is_stdout(name)) << name;
  }
  for (const char* name : {"", "stdout", "/dev/stderr", "/dev/fd/11", "/dev/fd/"}) {
    EXPECT_FALSE(is_stdout(name)) << name;
  }
}

}  // namespace
}  // namespace tensor_pager::output
