#pragma once

#include <optional>
#include <span>
#include <vector>

#include "devices/cuda/check.hpp"

namespace tensor_pager::cuda {

/// The address range and the frames: what map and unmap do, and nothing about time.
class PagedRange {
 public:
  explicit PagedRange(int gpu);
  ~PagedRange();
  PagedRange(const PagedRange&) = delete;
  PagedRange& operator=(const PagedRange&) = delete;

  Bytes granularity() const { return granularity_; }
  void reserve(const PageLayout& layout);
  void create_frame(FrameIndex frame);
  void destroy_frame(FrameIndex frame);
  void map_run(PageIndex first, std::span<const FrameIndex> frames);
  /// Those of the pages that are mapped.
  void unmap_run(PageIndex first, std::uint32_t count);

  std::byte* base() const { return reinterpret_cast<std::byte*>(base_); }

 private:
  CUdeviceptr address(PageIndex page) const { return base_ + page_.count * page.value; }

  Driver driver_;
  CUmemAllocationProp properties_{};
  CUmemAccessDesc access_{};
  Bytes granularity_;
  Bytes page_;
  Bytes size_;
  CUdeviceptr base_ = 0;
  std::vector<std::optional<CUmemGenericAllocationHandle>> frames_;
  std::vector<bool> mapped_;  // by page
};

}  // namespace tensor_pager::cuda
