// SPDX-License-Identifier: Apache-2.0
#include "pager/mapped_file_store.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "pager/errors.hpp"
#include "system_call.hpp"

namespace tensor_pager {

/// "model.gguf: read of 4096 bytes at 8192", for messages.
std::string MappedFileStore::place(const File& file, Bytes offset, Bytes size) {
  return file.path.string() + ": read of " + std::to_string(size.count) + " bytes at " +
         std::to_string(offset.count);
}

MappedFileStore::MappedFileStore(const std::vector<std::filesystem::path>& files) {
  try {
    open_files(files);
    map_files();
  } catch (...) {
    close();
    throw;
  }
}

MappedFileStore::~MappedFileStore() {
  close();
}

void MappedFileStore::open_files(const std::vector<std::filesystem::path>& paths) {
  if (paths.empty()) throw StoreError("a file store needs at least one file");
  for (const std::filesystem::path& path : paths) {
    // Opening a pipe would wait for somebody who writes to it.
    constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    files_.push_back(
        {.path = path, .descriptor = ::open(path.c_str(), kFlags), .offset = {}, .size = {}});
    File& file = files_.back();
    if (file.descriptor < 0)
      throw StoreError(failed_call("open of " + path.string()) + "; give a file that can be read");
    struct stat status {};
    if (::fstat(file.descriptor, &status) != 0)
      throw StoreError(failed_call("fstat of " + path.string()) + "; give a file that can be read");
    if (!S_ISREG(status.st_mode))
      throw StoreError(path.string() + " is not a regular file; give a file");
    if (status.st_size == 0) throw StoreError(path.string() + " is empty; give another file");
    file.offset = round_up(size_, kFileAlignment);
    file.size = {static_cast<std::uint64_t>(status.st_size)};
    size_ = file.offset + file.size;
  }
}

/// Reserves the whole range first, so that the files lie side by side and what is between them
/// reads as zero.
void MappedFileStore::map_files() {
  void* range =
      ::mmap(nullptr, size_.count, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED)
    throw StoreError(failed_call("mmap of " + std::to_string(size_.count) + " bytes") +
                     kAddressesRemedy);
  base_ = static_cast<std::byte*>(range);
  for (const File& file : files_) {
    void* const mapped = ::mmap(base_ + file.offset.count, file.size.count, PROT_READ,
                                MAP_SHARED | MAP_FIXED, file.descriptor, 0);
    if (mapped == MAP_FAILED) {
      throw StoreError(failed_call("mmap of " + std::to_string(file.size.count) + " bytes of " +
                                   file.path.string()) +
                       kAddressesRemedy);
    }
  }
}

void MappedFileStore::close() noexcept {
  if (base_ != nullptr) ::munmap(base_, size_.count);
  for (const File& file : files_) {
    if (file.descriptor >= 0) ::close(file.descriptor);
  }
}

void MappedFileStore::require_inside(const char* what, ByteRange range) const {
  if (range.offset <= size_ && range.size <= size_ - range.offset) return;
  throw StoreError(std::string(what) + " " + std::to_string(range.size.count) + " bytes at " +
                   std::to_string(range.offset.count) + " leaves the image of " +
                   std::to_string(size_.count) + " bytes");
}

const std::byte* MappedFileStore::address(ByteRange range) const {
  require_inside("looking up", range);
  return base_ + range.offset.count;
}

/// The file that the byte belongs to, or lies behind.
std::vector<MappedFileStore::File>::const_iterator MappedFileStore::file_at(Bytes offset) const {
  return std::prev(
      std::upper_bound(files_.begin(), files_.end(), offset,
                       [](Bytes at, const File& candidate) { return at < candidate.offset; }));
}

std::vector<FilePiece> MappedFileStore::pieces(ByteRange range) const {
  require_inside("looking up", range);
  std::vector<FilePiece> pieces;
  for (auto file = file_at(range.offset); file != files_.end(); ++file) {
    const Bytes begin = std::max(range.offset, file->offset);
    const Bytes end = std::min(range.end(), file->offset + file->size);
    if (file->offset >= range.end()) break;
    if (begin >= end) continue;
    pieces.push_back({file->descriptor, begin - file->offset, {begin, end - begin}});
  }
  return pieces;
}

void MappedFileStore::require_complete(ByteRange range) const {
  for (const FilePiece& piece : pieces(range)) {
    const File& file = *file_at(piece.image.offset);
    const auto where = [&] { return place(file, piece.offset, piece.image.size); };
    struct stat status {};
    if (::fstat(piece.descriptor, &status) != 0)
      throw StoreError(failed_call("fstat for " + where()) + "; is its disk in order?");
    const Bytes size{static_cast<std::uint64_t>(status.st_size)};
    if (size < piece.offset + piece.image.size)
      throw StoreError(where() +
                       " found the end of the file: it was truncated after it was opened; wait "
                       "until it is complete");
  }
}

void MappedFileStore::read(Bytes offset, std::span<std::byte> out) const {
  require_inside("read of", {offset, {out.size()}});
  auto file = file_at(offset);
  while (!out.empty()) {
    const Bytes at = offset - file->offset;
    if (at >= file->size) {  // between this file and the next
      const std::uint64_t gap =
          std::min<std::uint64_t>(std::next(file)->offset.count - offset.count, out.size());
      std::memset(out.data(), 0, gap);
      out = out.subspan(gap);
      offset += Bytes{gap};
      ++file;
      continue;
    }
    const std::uint64_t wanted = std::min<std::uint64_t>(file->size.count - at.count, out.size());
    const ssize_t got = ::pread(file->descriptor, out.data(), wanted, static_cast<off_t>(at.count));
    if (got < 0 && errno == EINTR) continue;
    const auto where = [&] { return place(*file, at, {wanted}); };
    if (got < 0) throw StoreError(failed_call(where()) + "; is its disk in order?");
    if (got == 0)
      throw StoreError(where() +
                       " found the end of the file: it was truncated after it was opened; wait "
                       "until it is complete");
    out = out.subspan(static_cast<std::size_t>(got));
    offset += Bytes{static_cast<std::uint64_t>(got)};
  }
}

}  // namespace tensor_pager
