// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "devices/cuda/context.hpp"
#include "devices/memory_count.hpp"
#include "pager/device.hpp"

namespace tensor_pager::cuda {

/// The addresses are cuMemAddressReserve, a frame is a cuMemCreate handle. Returns everything when
/// it is destroyed, whatever call failed before.
class PagedRange final : public AddressRange {
 public:
  PagedRange(const Context& context, MemoryCount& memory);
  ~PagedRange() override;

  void reserve(const PageLayout& layout) override;
  std::byte* base() const override {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): CUDA's addresses are numbers
    return reinterpret_cast<std::byte*>(base_);
  }
  void create_frame(FrameIndex frame) override;
  void destroy_frame(FrameIndex frame) override;
  void map(PageIndex first, std::span<const FrameIndex> frames) override;
  void unmap(PageIndex first, std::uint32_t count) override;

  Bytes granularity() const { return granularity_; }
  const PageLayout& layout() const { return layout_; }
  CUdeviceptr address(Bytes offset) const { return base_ + offset.count; }

 private:
  CUdeviceptr address(PageIndex page) const { return address(layout_.page * page.value); }
  void map_each(PageIndex first, std::span<const FrameIndex> frames);
  void unmap_mapped(PageIndex first, std::uint32_t count);

  const Context& context_;
  MemoryCount& memory_;
  CUmemAllocationProp properties_{};
  CUmemAccessDesc access_{};
  Bytes granularity_;
  PageLayout layout_;
  Bytes size_;
  CUdeviceptr base_ = 0;
  std::vector<std::optional<CUmemGenericAllocationHandle>> frames_;
  std::vector<bool> mapped_;  // by page
};

}  // namespace tensor_pager::cuda
