// SPDX-License-Identifier: Apache-2.0
#include "output/replacement_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <ostream>
#include <streambuf>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "pager/system_error.hpp"

namespace tensor_pager::output {
namespace {

constexpr off_t kAppend = -1;

// The number of this process's descriptor that a name stands for. Opened by their names, files
// would be written from their beginning.
std::optional<int> named_descriptor(const std::filesystem::path& path) {
  std::string_view name = path.native();
  if (name == "-" || name == "/dev/stdout") return STDOUT_FILENO;
  if (name == "/dev/stderr") return STDERR_FILENO;
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!name.starts_with(folder)) continue;
    name.remove_prefix(folder.size());
    int number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc{} && end == name.data() + name.size()) return number;
  }
  return std::nullopt;
}

// 0, or the error that errno held.
int write_all(int file, std::span<const std::byte> bytes, off_t offset) {
  while (!bytes.empty()) {
    const ssize_t written = offset == kAppend ? ::write(file, bytes.data(), bytes.size())
                                              : ::pwrite(file, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    if (offset != kAppend) offset += written;
  }
  return 0;
}

/// Hands on what is written to a stream in large pieces.
class PieceBuffer final : public std::streambuf {
 public:
  explicit PieceBuffer(ReplacementFile& file) : file_(file) {
    setp(piece_.data(), piece_.data() + piece_.size());
  }
  void hand_on() {
    file_.write(std::as_bytes(std::span(pbase(), pptr())));
    setp(piece_.data(), piece_.data() + piece_.size());
  }

 private:
  int_type overflow(int_type c) override {
    hand_on();
    if (!traits_type::eq_int_type(c, traits_type::eof())) sputc(traits_type::to_char_type(c));
    return traits_type::not_eof(c);
  }

  ReplacementFile& file_;
  std::array<char, 1 << 16> piece_{};
};

}  // namespace

ReplacementFile::ReplacementFile(std::filesystem::path path) : path_(std::move(path)) {
  if (const auto number = named_descriptor(path_)) {
    place_ = Place::open;
    descriptor_ = ::fcntl(*number, F_DUPFD_CLOEXEC, 0);
    if (descriptor_ < 0) fail(errno);
    return;
  }
  std::error_code unresolved;
  target_ = std::filesystem::weakly_canonical(path_, unresolved);
  if (unresolved || path_.empty()) target_ = path_;
  require_writable();
}

ReplacementFile::~ReplacementFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (spool_ >= 0) ::close(spool_);
  if (!beside_.empty()) ::unlink(beside_.c_str());
}

void ReplacementFile::require_writable() {
  struct stat status {};
  if (::stat(target_.c_str(), &status) != 0) {
    if (errno != ENOENT || target_.filename().empty()) fail(errno);
    return require_room_beside();
  }
  if (S_ISDIR(status.st_mode)) fail(EISDIR);
  if (!S_ISREG(status.st_mode)) {
    place_ = Place::open;
    descriptor_ = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail(errno);
    return;
  }
  // A rename would replace a file that nobody may write, too.
  if (::faccessat(AT_FDCWD, target_.c_str(), W_OK, AT_EACCESS) != 0) fail(errno);
  try {
    require_room_beside();
  } catch (const OutputError&) {
    place_ = Place::in_place;
  }
}

void ReplacementFile::require_room_beside() {
  ::close(create_beside());
  ::unlink(std::exchange(beside_, {}).c_str());
}

// -1 where a file without a name could not be made, or not get one later.
int ReplacementFile::create_unnamed() const {
  if (::access("/proc/self/fd", X_OK) != 0) return -1;
  const std::filesystem::path folder = target_.has_parent_path() ? target_.parent_path() : ".";
  return ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
}

int ReplacementFile::create_beside() {
  return name_with(
      [](const char* name) { return ::open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
}

void ReplacementFile::name_beside(int file) {
  const std::string unnamed = fmt::format("/proc/self/fd/{}", file);
  name_with([&](const char* name) {
    return ::linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, name, AT_SYMLINK_FOLLOW);
  });
}

// Calls `make` with names beside the target until one of them is free. Returns what it did.
int ReplacementFile::name_with(const std::function<int(const char*)>& make) {
  constexpr std::size_t kLongestName = 200;  // of 255, with what is added
  const std::string name = target_.filename().string().substr(0, kLongestName);
  for (int i = 0;; ++i) {
    beside_ = target_.parent_path() / fmt::format(".{}.{}-{}.part", name, ::getpid(), i);
    const int made = make(beside_.c_str());
    if (made >= 0) return made;
    if (errno == EEXIST) continue;
    const int error = errno;
    beside_.clear();
    fail(error);
  }
}

// What is begun beside a file has its mode, and where the system allows it, its owner.
int ReplacementFile::descriptor() {
  if (descriptor_ >= 0) return descriptor_;
  if (place_ == Place::in_place) {
    descriptor_ = ::open(target_.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (descriptor_ < 0) fail(errno);
    return descriptor_;
  }
  descriptor_ = create_unnamed();
  if (descriptor_ < 0) descriptor_ = create_beside();
  struct stat former {};
  if (::stat(target_.c_str(), &former) == 0) {
    [[maybe_unused]] const int owner = ::fchown(descriptor_, former.st_uid, former.st_gid);
    ::fchmod(descriptor_, former.st_mode & 07777);
  }
  return descriptor_;
}

void ReplacementFile::write(std::span<const std::byte> bytes) {
  if (const int error = write_all(descriptor(), bytes, kAppend); error != 0) fail(error);
}

// A FIFO has no offsets, and those of a file that others write to, too, are not ours.
void ReplacementFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  const bool waits = place_ == Place::open;
  const int error = write_all(waits ? spool() : descriptor(), bytes, static_cast<off_t>(offset));
  if (error == 0) return;
  waits ? fail_spool(error) : fail(error);
}

void ReplacementFile::write(const std::function<void(std::ostream&)>& content) {
  PieceBuffer buffer(*this);
  std::ostream out(&buffer);
  out.exceptions(std::ios::badbit);  // an OutputError passes through
  content(out);
  buffer.hand_on();
}

int ReplacementFile::spool() {
  if (spool_ >= 0) return spool_;
  std::error_code failed;
  const std::filesystem::path folder = std::filesystem::temp_directory_path(failed);
  if (failed) fail_spool(failed.value());
  std::string name = (folder / "tensor-pager-XXXXXX").string();
  spool_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (spool_ < 0) fail_spool(errno);
  ::unlink(name.c_str());
  return spool_;
}

void ReplacementFile::hand_on_spool() {
  std::vector<std::byte> piece(std::size_t{1} << 20);
  for (off_t done = 0;;) {
    const ssize_t count = ::pread(spool_, piece.data(), piece.size(), done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_spool(errno);
    if (count == 0) return;
    write(std::span(piece).first(static_cast<std::size_t>(count)));
    done += count;
  }
}

void ReplacementFile::commit() {
  if (spool_ >= 0) hand_on_spool();
  const int file = descriptor();
  if (place_ == Place::beside && beside_.empty()) name_beside(file);
  // Some file systems report a full disk only here.
  descriptor_ = -1;
  if (::close(file) != 0) fail(errno);
  if (beside_.empty()) return;
  if (::rename(beside_.c_str(), target_.c_str()) != 0) fail(errno);
  beside_.clear();
}

void ReplacementFile::fail(int error) const {
  throw OutputError(
      fmt::format("{}: cannot write: {}; choose another file", path_.string(), cause_of(error)));
}

void ReplacementFile::fail_spool(int error) const {
  throw OutputError(
      fmt::format("{}: cannot write: what is to be written there waits in a temporary file: {}; "
                  "set TMPDIR to a folder with room",
                  path_.string(), cause_of(error)));
}

bool is_stdout(const std::filesystem::path& path) {
  return named_descriptor(path) == STDOUT_FILENO;
}

bool is_same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
  namespace fs = std::filesystem;
  if (is_stdout(a) || is_stdout(b)) return is_stdout(a) && is_stdout(b);
  std::error_code failed;
  if (fs::exists(a, failed)) return fs::is_regular_file(a, failed) && fs::equivalent(a, b, failed);
  const fs::path place = fs::weakly_canonical(fs::absolute(a, failed), failed);
  return !failed && place == fs::weakly_canonical(fs::absolute(b, failed), failed) && !failed;
}

}  // namespace tensor_pager::output
