// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/gguf_error.hpp"

namespace tensor_pager::loaders {

static_assert(std::endian::native == std::endian::little, "GGUF is read without byte swapping");

/// Reads the header of a file front to back. Nothing is handed out, and nothing is allocated for
/// it, before it is known to be inside the file.
///
/// Uses pread and not a mapping: a file that is truncated while it is read is then an error and not
/// a SIGBUS.
class HeaderReader {
 public:
  /// Throws GgufError if the file cannot be opened or is not a regular file.
  explicit HeaderReader(std::filesystem::path path);
  /// What a file of `size` bytes begins with; `name` is what errors call it.
  HeaderReader(std::filesystem::path name, std::span<const std::byte> begin, std::uint64_t size);
  ~HeaderReader();
  HeaderReader(const HeaderReader&) = delete;
  HeaderReader& operator=(const HeaderReader&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return size_; }
  std::uint64_t position() const { return position_; }
  std::uint64_t remaining() const { return size_ - position_; }

  /// A fixed-size little-endian value.
  template <class T>
  T read(std::string_view field) {
    T value;
    read_bytes(std::as_writable_bytes(std::span(&value, 1)), field);
    return value;
  }

  /// Exactly `out.size()` bytes.
  void read_bytes(std::span<std::byte> out, std::string_view field);

  /// A string: 64-bit length, then that many bytes; at most `limit` of them. The view lives until
  /// the next read.
  std::string_view read_string(std::uint64_t limit, std::string_view field);

  /// A 64-bit count of items that take at least `min_item_bytes` each; an error if they cannot be
  /// in the file.
  std::uint64_t read_count(std::uint64_t min_item_bytes, std::string_view field);

  /// The error for `field`, at the offset where the last item read began.
  GgufError error(std::string_view field, const std::string& problem) const;
  GgufError error_at(std::uint64_t offset, std::string_view field,
                     const std::string& problem) const;

 private:
  void require(std::uint64_t bytes, std::string_view field) const;
  void refill();

  std::filesystem::path path_;
  int descriptor_ = -1;  // or that of no file, whose beginning is in the buffer
  std::uint64_t size_ = 0;
  std::uint64_t position_ = 0;
  std::uint64_t item_begin_ = 0;
  std::vector<std::byte> buffer_;
  std::size_t buffer_used_ = 0;  // bytes of buffer_ already handed out
  std::size_t buffer_end_ = 0;   // bytes of buffer_ that are valid
  std::string text_;
};

}  // namespace tensor_pager::loaders
