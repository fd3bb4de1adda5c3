// SPDX-License-Identifier: Apache-2.0
#include "devices/host/in_place_range.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>

#include "pager/errors.hpp"
#include "system_call.hpp"

namespace tensor_pager {
namespace {

/// What madvise returns once no signal comes in between.
int advise(std::byte* address, std::uint64_t size, int advice) {
  int result = 0;
  do {
    result = ::madvise(address, size, advice);
  } while (result != 0 && errno == EINTR);
  return result;
}

}  // namespace

void InPlaceRange::reserve(const PageLayout& layout) {
  require_here();
  if (layout.image != files_->size())
    throw DeviceError("a device in place was given an image of " +
                      std::to_string(layout.image.count) + " bytes, but its files have " +
                      std::to_string(files_->size().count) +
                      "; give the pager the store that the device was made with");
  mapped_.resize(layout.page_count());
  pages_.reserve(layout);
}

std::byte* InPlaceRange::base() const {
  require_here();
  return pages_.base();
}

void InPlaceRange::create_frame(FrameIndex /*frame*/) {
  require_here();
  memory_.add(layout().page);
}

void InPlaceRange::destroy_frame(FrameIndex /*frame*/) {
  require_here();
  memory_.remove(layout().page);
}

void InPlaceRange::map(PageIndex first, std::span<const FrameIndex> frames) {
  require_here();
  const std::uint32_t end = first.value + static_cast<std::uint32_t>(frames.size());
  for (std::uint32_t page = first.value; page < end;) {
    std::uint32_t stop = page;
    while (stop < end && !mapped_.at(stop)) ++stop;
    if (stop > page) map_files({page}, stop - page);
    page = stop + 1;
  }
}

void InPlaceRange::map_files(PageIndex first, std::uint32_t count) {
  for (const FilePiece& piece : files_->pieces(layout().bytes_of(first, count))) {
    void* const mapped =
        ::mmap(pages_.base() + piece.image.offset.count, piece.image.size.count, PROT_READ,
               MAP_SHARED | MAP_FIXED, piece.descriptor, static_cast<off_t>(piece.offset.count));
    if (mapped == MAP_FAILED)
      throw DeviceError(failed_call(of_bytes("mmap of a page", piece.image.size)) + kMapsRemedy);
  }
  pages_.withhold(first, count);
  std::fill_n(mapped_.begin() + first.value, count, true);
}

void InPlaceRange::unmap(PageIndex first, std::uint32_t count) {
  require_here();
  pages_.restore(first, count);
  std::fill_n(mapped_.begin() + first.value, count, false);
}

void InPlaceRange::bring_in(PageIndex page) const {
  const ByteRange bytes = layout().bytes_of(page);
  files_->require_complete(bytes);
  if (advise(pages_.address(page), bytes.size.count, MADV_POPULATE_READ) != 0) read_through(bytes);
}

/// Where the kernel does not bring in (it is older than Linux 5.14, a disk fails, a file has just
/// become shorter): this does, or says why not.
void InPlaceRange::read_through(ByteRange bytes) const {
  std::vector<std::byte> piece(std::size_t{1} << 20);
  while (bytes.size.count > 0) {
    const Bytes size{std::min<std::uint64_t>(bytes.size.count, piece.size())};
    files_->read(bytes.offset, {piece.data(), size.count});
    bytes = {bytes.offset + size, bytes.size - size};
  }
}

}  // namespace tensor_pager
