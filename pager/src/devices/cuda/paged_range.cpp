// SPDX-License-Identifier: Apache-2.0
#include "devices/cuda/paged_range.hpp"

#include <algorithm>
#include <bit>
#include <exception>

namespace tensor_pager::cuda {

PagedRange::PagedRange(const Context& context, MemoryCount& memory)
    : context_(context), memory_(memory) {
  properties_.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties_.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties_.location.id = context.device();
  access_.location = properties_.location;
  access_.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  const CurrentContext current(context_);
  std::size_t size = 0;
  check(
      driver().cuMemGetAllocationGranularity(&size, &properties_, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
      "cuMemGetAllocationGranularity");
  granularity_ = {size};
}

/// A driver that is shutting down refuses all of this; the process is about to return the memory
/// anyway.
PagedRange::~PagedRange() {
  const CurrentContext current(context_, std::nothrow);
  if (!current) return;
  for (std::uint32_t page = 0; page < mapped_.size(); ++page) {
    if (mapped_[page]) driver().cuMemUnmap(address(PageIndex{page}), layout_.page.count);
  }
  for (const auto& frame : frames_) {
    if (frame) driver().cuMemRelease(*frame);
  }
  if (base_ != 0) driver().cuMemAddressFree(base_, size_.count);
}

void PagedRange::reserve(const PageLayout& layout) {
  const CurrentContext current(context_);
  layout_ = layout;
  size_ = round_up(layout.image, layout.page);
  mapped_.resize(layout.page_count());
  // An alignment is a power of two; any page is a multiple of what the driver aligns by itself.
  const std::size_t alignment = std::has_single_bit(layout.page.count) ? layout.page.count : 0;
  check(driver().cuMemAddressReserve(&base_, size_.count, alignment, 0, 0), "cuMemAddressReserve",
        size_);
}

void PagedRange::create_frame(FrameIndex frame) {
  const CurrentContext current(context_);
  if (frame.value >= frames_.size()) frames_.resize(frame.value + 1);
  CUmemGenericAllocationHandle handle = 0;
  const CUresult result = driver().cuMemCreate(&handle, layout_.page.count, &properties_, 0);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    throw DeviceError(with_bytes("cuMemCreate", layout_.page) + " failed: the GPU has " +
                      free_memory() + " free; give the arena less, or end what else uses the GPU");
  }
  check(result, "cuMemCreate", layout_.page);
  frames_[frame.value] = handle;
  memory_.add(layout_.page);
}

void PagedRange::destroy_frame(FrameIndex frame) {
  const CurrentContext current(context_);
  auto& handle = frames_.at(frame.value);
  check(driver().cuMemRelease(handle.value()), "cuMemRelease", layout_.page);
  handle.reset();
  memory_.remove(layout_.page);
}

/// Unmapping and granting access take as long for a run of pages as for one, and while they do,
/// other threads cannot launch kernels.
void PagedRange::map(PageIndex first, std::span<const FrameIndex> frames) {
  if (frames.empty()) return;
  const CurrentContext current(context_);
  const auto count = static_cast<std::uint32_t>(frames.size());
  unmap_mapped(first, count);
  try {
    map_each(first, frames);
    const Bytes size = layout_.page * count;
    check(driver().cuMemSetAccess(address(first), size.count, &access_, 1), "cuMemSetAccess", size);
  } catch (...) {
    const std::exception_ptr failure = std::current_exception();
    try {
      unmap_mapped(first, count);
    } catch (const DeviceError&) {
      // The first failure says why; the pages still count as mapped.
    }
    std::rethrow_exception(failure);
  }
}

void PagedRange::map_each(PageIndex first, std::span<const FrameIndex> frames) {
  PageIndex page = first;
  for (const FrameIndex frame : frames) {
    check(
        driver().cuMemMap(address(page), layout_.page.count, 0, frames_.at(frame.value).value(), 0),
        "cuMemMap", layout_.page);
    mapped_.at(page.value) = true;
    ++page;
  }
}

void PagedRange::unmap(PageIndex first, std::uint32_t count) {
  const CurrentContext current(context_);
  unmap_mapped(first, count);
}

/// A stretch of mapped pages at a time.
void PagedRange::unmap_mapped(PageIndex first, std::uint32_t count) {
  const std::uint32_t end = first.value + count;
  for (std::uint32_t begin = first.value; begin < end;) {
    std::uint32_t stretch = begin;
    while (stretch < end && mapped_.at(stretch)) ++stretch;
    if (stretch > begin) {
      const Bytes size = layout_.page * (stretch - begin);
      check(driver().cuMemUnmap(address(PageIndex{begin}), size.count), "cuMemUnmap", size);
      std::fill(mapped_.begin() + static_cast<std::ptrdiff_t>(begin),
                mapped_.begin() + static_cast<std::ptrdiff_t>(stretch), false);
    }
    begin = stretch + 1;
  }
}

}  // namespace tensor_pager::cuda
