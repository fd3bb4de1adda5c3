// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <span>
#include <stdexcept>
#include <string>

namespace tensor_pager::output {

/// A file cannot be written. The message is one line: the file, the cause, the remedy.
class OutputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A file that is there as a whole or not at all. It is written beside its place, in the same
/// folder, and takes it with a rename when it is complete: until then, and if it never is, what was
/// there before stays as it was. Until it is complete it has no name where the file system can do
/// that, so that nothing is left however the process ends; elsewhere, what is killed leaves a
/// ".NAME.PID-N.part".
///
/// What no file can take the place of is written to directly: devices and FIFOs (opened at once, so
/// a FIFO waits for its reader), descriptors (/dev/stdout, /dev/fd/N), and files in folders where
/// nothing new can be made. What is written at offsets waits for devices, FIFOs and descriptors in
/// a temporary file until it is complete. A link is followed: what it points to is replaced.
///
/// Not thread-safe.
class ReplacementFile {
 public:
  /// Writes nothing yet, and leaves nothing behind. Throws OutputError if the file could not be
  /// written: no such folder, no permission, a folder of that name.
  explicit ReplacementFile(std::filesystem::path path);
  /// Takes back what was begun.
  ~ReplacementFile();
  ReplacementFile(const ReplacementFile&) = delete;
  ReplacementFile& operator=(const ReplacementFile&) = delete;

  /// Appends. Throws OutputError.
  void write(std::span<const std::byte> bytes);
  /// Writes at a byte offset of what this object writes. Throws OutputError. A file that is written
  /// at offsets is not appended to as well.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Appends what `content` writes to its stream. Throws OutputError.
  void write(const std::function<void(std::ostream&)>& content);
  /// The file is complete, and in its place from now on. Throws OutputError.
  void commit();

 private:
  enum class Place {
    beside,    ///< a file of its own, until commit
    in_place,  ///< the file itself, emptied by the first write
    open,      ///< a device, a FIFO or a descriptor, open from the beginning
  };

  void require_writable();
  void require_room_beside();
  int create_unnamed() const;
  int create_beside();
  void name_beside(int file);
  int name_with(const std::function<int(const char*)>& make);
  int descriptor();
  int spool();
  void hand_on_spool();
  [[noreturn]] void fail_spool(int error) const;
  [[noreturn]] void fail(int error) const;

  std::filesystem::path path_;    // as it was given, for messages
  std::filesystem::path target_;  // what is replaced: links are followed
  std::filesystem::path beside_;  // while there is a file of that name
  Place place_ = Place::beside;
  int descriptor_ = -1;
  int spool_ = -1;  // of what is written at offsets, where it is written directly
};

/// Whether a name means this process's stdout: "-", /dev/stdout, /dev/fd/1, /proc/self/fd/1.
bool is_stdout(const std::filesystem::path& path);

/// Whether what is written under one name is found under the other: both mean stdout, or one file,
/// which need not be there yet. Devices, FIFOs and folders hold nothing that could be found.
bool is_same_file(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace tensor_pager::output
