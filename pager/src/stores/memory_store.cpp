// SPDX-License-Identifier: Apache-2.0
#include "pager/memory_store.hpp"

#include <cstring>
#include <string>

#include "pager/errors.hpp"

namespace tensor_pager {

void MemoryStore::read(Bytes offset, std::span<std::byte> out) const {
  if (offset > size() || Bytes{out.size()} > size() - offset) {
    throw StoreError("read of " + std::to_string(out.size()) + " bytes at " +
                     std::to_string(offset.count) + " leaves the image of " +
                     std::to_string(image_.size()) + " bytes");
  }
  if (!out.empty()) std::memcpy(out.data(), image_.data() + offset.count, out.size());
}

const std::byte* MemoryStore::address(ByteRange range) const {
  if (range.offset > size() || range.size > size() - range.offset) {
    throw StoreError("looking up " + std::to_string(range.size.count) + " bytes at " +
                     std::to_string(range.offset.count) + " leaves the image of " +
                     std::to_string(image_.size()) + " bytes");
  }
  return image_.data() + range.offset.count;
}

}  // namespace tensor_pager
