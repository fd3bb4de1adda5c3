// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "pager/types.hpp"

namespace tensor_pager {

inline constexpr const char* kMapsRemedy =
    "; larger pages need fewer mappings (sysctl vm.max_map_count limits them)";

/// "mmap of 4096 bytes", for messages.
std::string of_bytes(const std::string& what, Bytes size);

/// The addresses of an image's pages, without memory and without access rights until something is
/// mapped over them. A child process inherits none of them. What the kernel refuses is a
/// DeviceError.
class Reservation {
 public:
  Reservation() = default;
  ~Reservation();
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  /// Once, before everything below.
  void reserve(const PageLayout& layout);
  const PageLayout& layout() const { return layout_; }
  std::byte* base() const { return base_; }
  std::byte* address(PageIndex page) const { return base_ + layout_.page.count * page.value; }

  /// After something was mapped over pages: there a read in a child process is a segmentation
  /// fault.
  void withhold(PageIndex first, std::uint32_t count) const;
  /// Takes away whatever is mapped over pages.
  void restore(PageIndex first, std::uint32_t count) const;

 private:
  PageLayout layout_;
  std::byte* base_ = nullptr;
};

}  // namespace tensor_pager
