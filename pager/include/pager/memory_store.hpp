// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "pager/backing_store.hpp"
#include "pager/export.hpp"

namespace tensor_pager {

/// The image is host memory that the caller owns and keeps alive and unchanged for as long as the
/// store lives.
class TENSOR_PAGER_EXPORT MemoryStore final : public BackingStore {
 public:
  explicit MemoryStore(std::span<const std::byte> image) : image_(image) {}

  Bytes size() const override { return {image_.size()}; }
  void read(Bytes offset, std::span<std::byte> out) const override;
  const std::byte* data() const override { return image_.data(); }
  const std::byte* address(ByteRange range) const override;

 private:
  std::span<const std::byte> image_;
};

}  // namespace tensor_pager
