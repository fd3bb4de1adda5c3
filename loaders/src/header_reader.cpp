// SPDX-License-Identifier: Apache-2.0
#include "header_reader.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "loaders/gguf.hpp"
#include "pager/system_error.hpp"

namespace tensor_pager::loaders {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{256} * 1024;

}  // namespace

HeaderReader::HeaderReader(std::filesystem::path path) : path_(std::move(path)) {
  // Opening a pipe would wait for somebody who writes to it.
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor_ < 0) {
    throw GgufError(path_, "", std::nullopt,
                    fmt::format("cannot open: {}; give a file that can be read", cause_of(errno)));
  }
  struct stat status {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw GgufError(path_, "", std::nullopt, "not a regular file; give a GGUF file");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
  buffer_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kBufferBytes, size_)));
}

HeaderReader::HeaderReader(std::filesystem::path name, std::span<const std::byte> begin,
                           std::uint64_t size)
    : path_(std::move(name)),
      size_(size),
      buffer_(begin.begin(), begin.end()),
      buffer_end_(buffer_.size()) {}

HeaderReader::~HeaderReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

GgufError HeaderReader::error(std::string_view field, const std::string& problem) const {
  return error_at(item_begin_, field, problem);
}

GgufError HeaderReader::error_at(std::uint64_t offset, std::string_view field,
                                 const std::string& problem) const {
  return {path_, std::string(field), offset, problem};
}

void HeaderReader::require(std::uint64_t bytes, std::string_view field) const {
  if (bytes > remaining()) {
    throw error_at(position_, field,
                   fmt::format("needs {} bytes, but the file ends after {}; it is truncated or "
                               "damaged",
                               bytes, remaining()));
  }
  if (bytes > kMaxHeaderSize.count || position_ > kMaxHeaderSize.count - bytes) {
    throw error_at(position_, field,
                   fmt::format("metadata and tensor table exceed {}; the file is damaged",
                               to_string(kMaxHeaderSize)));
  }
}

void HeaderReader::refill() {
  if (descriptor_ < 0) {
    throw error_at(position_, "",
                   fmt::format("the outline of the model ends within its header of {} bytes; give "
                               "all of it",
                               buffer_end_));
  }
  ssize_t got;
  do {
    got = ::pread(descriptor_, buffer_.data(), buffer_.size(), static_cast<off_t>(position_));
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    throw error_at(position_, "",
                   fmt::format("cannot read: {}; is its disk in order?", cause_of(errno)));
  }
  if (got == 0)
    throw error_at(position_, "",
                   "the file became shorter while it was read; wait until it is complete");
  buffer_used_ = 0;
  buffer_end_ = static_cast<std::size_t>(got);
}

void HeaderReader::read_bytes(std::span<std::byte> out, std::string_view field) {
  item_begin_ = position_;
  require(out.size(), field);
  while (!out.empty()) {
    if (buffer_used_ == buffer_end_) refill();
    const std::size_t n = std::min(out.size(), buffer_end_ - buffer_used_);
    std::memcpy(out.data(), buffer_.data() + buffer_used_, n);
    buffer_used_ += n;
    position_ += n;
    out = out.subspan(n);
  }
}

std::string_view HeaderReader::read_string(std::uint64_t limit, std::string_view field) {
  const std::uint64_t begin = position_;
  const auto length = read<std::uint64_t>(field);
  if (length > remaining()) {
    throw error(
        field,
        fmt::format("length {} exceeds the {} bytes left in the file; it is truncated or damaged",
                    length, remaining()));
  }
  if (length > limit) {
    throw error(field, fmt::format("length {} exceeds the limit of {}; the file is damaged", length,
                                   limit));
  }
  require(length, field);
  text_.resize(static_cast<std::size_t>(length));
  read_bytes(std::as_writable_bytes(std::span(text_)), field);
  item_begin_ = begin;
  return text_;
}

std::uint64_t HeaderReader::read_count(std::uint64_t min_item_bytes, std::string_view field) {
  const auto count = read<std::uint64_t>(field);
  if (count > remaining() / min_item_bytes) {
    throw error(
        field,
        fmt::format(
            "count {} cannot fit in the {} bytes left in the file; it is truncated or damaged",
            count, remaining()));
  }
  if (count > kMaxHeaderSize.count / min_item_bytes) {
    throw error(field,
                fmt::format("count {} exceeds what {} of metadata can hold; the file is damaged",
                            count, to_string(kMaxHeaderSize)));
  }
  return count;
}

}  // namespace tensor_pager::loaders
