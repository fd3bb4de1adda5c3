// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "birthplace.hpp"
#include "devices/host/reservation.hpp"
#include "devices/memory_count.hpp"
#include "pager/device.hpp"
#include "pager/mapped_file_store.hpp"

namespace tensor_pager {

/// Pages are read-only mappings of the files themselves. A frame is what a page is counted as and
/// has no memory, so pages that point to one frame have each bytes of their own; a page once mapped
/// stays as it is until it is unmapped.
class InPlaceRange final : public AddressRange {
 public:
  static constexpr const char* kName = "host memory, files in place";

  /// `memory` counts the frames, and outlives this.
  InPlaceRange(std::shared_ptr<const MappedFileStore> files, MemoryCount& memory)
      : files_(std::move(files)), memory_(memory) {}

  void reserve(const PageLayout& layout) override;
  std::byte* base() const override;
  void create_frame(FrameIndex frame) override;
  void destroy_frame(FrameIndex frame) override;
  void map(PageIndex first, std::span<const FrameIndex> frames) override;
  void unmap(PageIndex first, std::uint32_t count) override;

  const PageLayout& layout() const { return pages_.layout(); }
  /// Makes the page's bytes present where it is mapped, from disk if need be. Any thread may call
  /// it, while the page stays mapped. Throws StoreError if they cannot be read.
  void bring_in(PageIndex page) const;

 private:
  void map_files(PageIndex first, std::uint32_t count);
  void read_through(ByteRange bytes) const;
  void require_here() const { birthplace_.require_here("this host device"); }

  const Birthplace birthplace_;
  const std::shared_ptr<const MappedFileStore> files_;
  MemoryCount& memory_;
  Reservation pages_;
  std::vector<bool> mapped_;  // by page
};

}  // namespace tensor_pager
