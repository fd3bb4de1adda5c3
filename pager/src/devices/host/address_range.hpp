// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "birthplace.hpp"
#include "devices/host/reservation.hpp"
#include "devices/memory_count.hpp"
#include "pager/device.hpp"

namespace tensor_pager {

inline constexpr const char* kHostMemoryRemedy = "; free host memory, or give the arena less";

/// A reservation without access rights, and frames that are pieces of a memfd: pages are read-only
/// mappings of them. A child process inherits none of the mappings: it would see its parent's pages
/// change.
class HostAddressRange final : public AddressRange {
 public:
  static constexpr const char* kName = "host memory";

  /// `memory` counts the frames, and outlives this.
  explicit HostAddressRange(MemoryCount& memory) : memory_(memory) {}
  ~HostAddressRange() override;

  void reserve(const PageLayout& layout) override;
  std::byte* base() const override;
  void create_frame(FrameIndex frame) override;
  void destroy_frame(FrameIndex frame) override;
  void map(PageIndex first, std::span<const FrameIndex> frames) override;
  void unmap(PageIndex first, std::uint32_t count) override;

  const PageLayout& layout() const { return pages_.layout(); }
  /// Where the frame of a page can be written.
  std::byte* window(PageIndex page) const;

 private:
  void grow_file(FrameIndex frame);
  void take_memory(FrameIndex frame);
  std::byte* open_window(FrameIndex frame);
  void map_one(PageIndex page, FrameIndex frame);
  bool return_memory(FrameIndex frame) noexcept;
  void require_here() const { birthplace_.require_here("this host device"); }

  off_t offset(FrameIndex frame) const {
    return static_cast<off_t>(layout().page.count * frame.value);
  }

  const Birthplace birthplace_;
  MemoryCount& memory_;
  Reservation pages_;
  int file_ = -1;
  Bytes file_size_;
  std::vector<std::byte*> windows_;                  // by frame: a second, writable mapping
  std::vector<std::optional<FrameIndex>> frame_of_;  // by page: empty where it points nowhere
};

}  // namespace tensor_pager
