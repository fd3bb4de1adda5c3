// SPDX-License-Identifier: Apache-2.0
#include "devices/host/address_range.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <limits>
#include <utility>

#include "pager/errors.hpp"
#include "system_call.hpp"

namespace tensor_pager {

namespace {

/// "; 3.50 GiB of host memory are available", where the kernel tells.
std::string available_memory() {
  std::ifstream memory("/proc/meminfo");
  std::string name;
  std::uint64_t kibibytes = 0;
  while (memory >> name >> kibibytes) {
    if (name == "MemAvailable:")
      return "; " + to_string(KiB(kibibytes)) + " of host memory are available";
    memory.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return "";
}

/// The error for the call that errno speaks of.
DeviceError refused(const std::string& call) {
  std::string message = failed_call(call);  // first: what follows changes errno
  message += available_memory();
  return DeviceError(message + kHostMemoryRemedy);
}

/// What fallocate returns once no signal comes in between.
int allocate(int file, int mode, off_t offset, Bytes size) {
  int result = 0;
  do {
    result = ::fallocate(file, mode, offset, static_cast<off_t>(size.count));
  } while (result != 0 && errno == EINTR);
  return result;
}

}  // namespace

HostAddressRange::~HostAddressRange() {
  for (std::byte* window : windows_) {
    if (window != nullptr) ::munmap(window, layout().page.count);
  }
  if (file_ < 0) return;
  // A child process may have the file open still; its memory goes now.
  [[maybe_unused]] const int emptied = ::ftruncate(file_, 0);
  ::close(file_);
}

void HostAddressRange::reserve(const PageLayout& layout) {
  require_here();
  frame_of_.resize(layout.page_count());
  pages_.reserve(layout);
  file_ = ::memfd_create("tensor-pager-arena", MFD_CLOEXEC);
  if (file_ < 0) throw refused("memfd_create of the arena");
}

std::byte* HostAddressRange::base() const {
  require_here();
  return pages_.base();
}

void HostAddressRange::create_frame(FrameIndex frame) {
  require_here();
  if (frame.value >= windows_.size()) windows_.resize(frame.value + std::size_t{1}, nullptr);
  grow_file(frame);
  take_memory(frame);
  try {
    windows_[frame.value] = open_window(frame);
  } catch (...) {
    return_memory(frame);
    throw;
  }
  memory_.add(layout().page);
}

void HostAddressRange::grow_file(FrameIndex frame) {
  const Bytes size = layout().page * (std::uint64_t{frame.value} + 1);
  if (size <= file_size_) return;
  if (::ftruncate(file_, static_cast<off_t>(size.count)) != 0)
    throw refused(of_bytes("ftruncate of the arena for a frame", layout().page));
  file_size_ = size;  // holds no memory by itself
}

/// Taken now, and not at the first write: running out of memory is an error here, and a SIGBUS
/// there.
void HostAddressRange::take_memory(FrameIndex frame) {
  if (allocate(file_, 0, offset(frame), layout().page) != 0)
    throw refused(of_bytes("fallocate of a frame", layout().page));
}

std::byte* HostAddressRange::open_window(FrameIndex frame) {
  const std::uint64_t size = layout().page.count;
  void* const window =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file_, offset(frame));
  if (window == MAP_FAILED)
    throw DeviceError(failed_call(of_bytes("mmap of a frame", layout().page)) + kMapsRemedy);
  if (::madvise(window, size, MADV_DONTFORK) == 0) return static_cast<std::byte*>(window);
  const DeviceError error(failed_call(of_bytes("madvise of a frame", layout().page)) + kMapsRemedy);
  ::munmap(window, size);
  throw error;
}

void HostAddressRange::destroy_frame(FrameIndex frame) {
  require_here();
  std::byte*& window = windows_.at(frame.value);
  if (!return_memory(frame))
    throw DeviceError(failed_call(of_bytes("fallocate to return a frame", layout().page)) +
                      kHostMemoryRemedy);
  // Where the kernel refuses this, addresses are lost, and no memory.
  ::munmap(std::exchange(window, nullptr), layout().page.count);
  memory_.remove(layout().page);
}

bool HostAddressRange::return_memory(FrameIndex frame) noexcept {
  const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return allocate(file_, mode, offset(frame), layout().page) == 0;
}

void HostAddressRange::map(PageIndex first, std::span<const FrameIndex> frames) {
  require_here();
  PageIndex page = first;
  for (const FrameIndex frame : frames) {
    map_one(page, frame);
    frame_of_.at(page.value) = frame;  // at once: a later page may be refused
    ++page;
  }
  pages_.withhold(first, static_cast<std::uint32_t>(frames.size()));
}

void HostAddressRange::map_one(PageIndex page, FrameIndex frame) {
  // Populated at once: a system call for the page is cheaper than a fault for each of its 4 KiB
  // pieces.
  void* const mapped = ::mmap(pages_.address(page), layout().page.count, PROT_READ,
                              MAP_SHARED | MAP_FIXED | MAP_POPULATE, file_, offset(frame));
  if (mapped == MAP_FAILED)
    throw DeviceError(failed_call(of_bytes("mmap of a page", layout().page)) + kMapsRemedy);
}

void HostAddressRange::unmap(PageIndex first, std::uint32_t count) {
  require_here();
  const auto points = [this](std::uint32_t page) { return frame_of_.at(page).has_value(); };
  const std::uint32_t end = first.value + count;
  for (std::uint32_t page = first.value; page < end;) {
    std::uint32_t stop = page;
    while (stop < end && points(stop)) ++stop;
    if (stop > page) {
      pages_.restore({page}, stop - page);
      std::fill(frame_of_.begin() + page, frame_of_.begin() + stop, std::nullopt);
    }
    page = stop + 1;
  }
}

std::byte* HostAddressRange::window(PageIndex page) const {
  return windows_.at(frame_of_.at(page.value).value().value);
}

}  // namespace tensor_pager
