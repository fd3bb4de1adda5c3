// SPDX-License-Identifier: Apache-2.0
#include "devices/host/reservation.hpp"

#include <sys/mman.h>

#include "pager/errors.hpp"
#include "system_call.hpp"

namespace tensor_pager {
namespace {

constexpr int kUnused = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

}  // namespace

std::string of_bytes(const std::string& what, Bytes size) {
  return what + " of " + std::to_string(size.count) + " bytes";
}

Reservation::~Reservation() {
  if (base_ != nullptr) ::munmap(base_, round_up(layout_.image, layout_.page).count);
}

void Reservation::reserve(const PageLayout& layout) {
  layout_ = layout;
  const Bytes size = round_up(layout.image, layout.page);
  void* const range = ::mmap(nullptr, size.count, PROT_NONE, kUnused, -1, 0);
  if (range == MAP_FAILED)
    throw DeviceError(failed_call(of_bytes("mmap of addresses", size)) + kAddressesRemedy);
  base_ = static_cast<std::byte*>(range);
  withhold({0}, layout.page_count());
}

void Reservation::withhold(PageIndex first, std::uint32_t count) const {
  const Bytes size = layout_.page * count;
  if (::madvise(address(first), size.count, MADV_DONTFORK) != 0)
    throw DeviceError(failed_call(of_bytes("madvise of pages", size)) + kMapsRemedy);
}

void Reservation::restore(PageIndex first, std::uint32_t count) const {
  const Bytes size = layout_.page * count;
  if (::mmap(address(first), size.count, PROT_NONE, kUnused | MAP_FIXED, -1, 0) == MAP_FAILED)
    throw DeviceError(failed_call(of_bytes("mmap to unmap pages", size)) + kMapsRemedy);
  withhold(first, count);  // so that it is one mapping with its neighbours again
}

}  // namespace tensor_pager
