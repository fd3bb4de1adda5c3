#pragma once

#include <cstddef>
#include <span>

#include "pager/types.hpp"

namespace tensor_pager {

/// Where the bytes of the image are on the host. The image is a byte range [0, size()); pages are
/// cut from it.
///
/// All members may be called from several threads at once.
class BackingStore {
 public:
  BackingStore() = default;
  virtual ~BackingStore() = default;
  BackingStore(const BackingStore&) = delete;
  BackingStore& operator=(const BackingStore&) = delete;

  virtual Bytes size() const = 0;

  /// Copies the image's bytes [offset, offset + out.size()) to `out`.
  /// Throws StoreError if the range leaves the image or if its bytes cannot be read.
  virtual void read(Bytes offset, std::span<std::byte> out) const = 0;

  /// The image as one contiguous host range, or nullptr if there is none.
  virtual const std::byte* data() const { return nullptr; }
};

}  // namespace tensor_pager
