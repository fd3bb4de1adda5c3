#include "devices/cuda/paged_range.hpp"

#include <algorithm>
#include <utility>

namespace tensor_pager::cuda {

PagedRange::PagedRange(int gpu) {
  properties_.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties_.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = gpu};
  access_.location = properties_.location;
  access_.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  std::size_t size = 0;
  driver_.check(driver_.granularity(&size, &properties_, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
                "cuMemGetAllocationGranularity");
  granularity_ = {size};
}

/// A driver that is shutting down refuses all of this; the process is about to return the memory
/// anyway.
PagedRange::~PagedRange() {
  for (std::uint32_t page = 0; page < mapped_.size(); ++page) {
    if (mapped_[page]) driver_.unmap(address({page}), page_.count);
  }
  for (const auto& frame : frames_) {
    if (frame) driver_.release(*frame);
  }
  if (base_ != 0) driver_.address_free(base_, size_.count);
}

void PagedRange::reserve(const PageLayout& layout) {
  page_ = layout.page;
  size_ = round_up(layout.image, layout.page);
  driver_.check(driver_.address_reserve(&base_, size_.count, page_.count, 0, 0),
                with_bytes("cuMemAddressReserve", size_));
  mapped_.resize(layout.page_count());
}

void PagedRange::create_frame(FrameIndex frame) {
  if (frame.value >= frames_.size()) frames_.resize(frame.value + 1);
  CUmemGenericAllocationHandle handle = 0;
  const CUresult result = driver_.create(&handle, page_.count, &properties_, 0);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    std::size_t free = 0;
    std::size_t total = 0;
    cudaMemGetInfo(&free, &total);
    throw DeviceError(with_bytes("cuMemCreate", page_) + " failed: the GPU has " +
                      to_string(Bytes{free}) + " of " + to_string(Bytes{total}) +
                      " free; give the arena less, or end what else uses the GPU");
  }
  driver_.check(result, with_bytes("cuMemCreate", page_));
  frames_[frame.value] = handle;
}

void PagedRange::destroy_frame(FrameIndex frame) {
  driver_.check(driver_.release(*std::exchange(frames_.at(frame.value), std::nullopt)),
                with_bytes("cuMemRelease", page_));
}

/// Unmapping and granting access take as long for a run of pages as for one, and while they do,
/// other threads cannot launch kernels.
void PagedRange::map_run(PageIndex first, std::span<const FrameIndex> frames) {
  unmap_run(first, static_cast<std::uint32_t>(frames.size()));
  PageIndex page = first;
  for (const FrameIndex frame : frames) {
    driver_.check(driver_.map(address(page), page_.count, 0, frames_.at(frame.value).value(), 0),
                  with_bytes("cuMemMap", page_));
    mapped_[page.value] = true;
    ++page;
  }
  const Bytes size = page_ * frames.size();
  driver_.check(driver_.set_access(address(first), size.count, &access_, 1),
                with_bytes("cuMemSetAccess", size));
}

/// A stretch of mapped pages at a time.
void PagedRange::unmap_run(PageIndex first, std::uint32_t count) {
  const std::uint32_t end = first.value + count;
  for (std::uint32_t begin = first.value; begin < end;) {
    std::uint32_t stretch = begin;
    while (stretch < end && mapped_.at(stretch)) ++stretch;
    if (stretch > begin) {
      const Bytes size = page_ * (stretch - begin);
      driver_.check(driver_.unmap(address({begin}), size.count), with_bytes("cuMemUnmap", size));
      std::fill(mapped_.begin() + static_cast<std::ptrdiff_t>(begin),
                mapped_.begin() + static_cast<std::ptrdiff_t>(stretch), false);
    }
    begin = stretch + 1;
  }
}

}  // namespace tensor_pager::cuda
