// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "pager/backing_store.hpp"
#include "pager/errors.hpp"
#include "pager/plan.hpp"

namespace tensor_pager::testing {

inline constexpr Bytes kWordPage = KiB(4);

/// An image of 32-bit words, word i being i * 2654435761. One page of it can be made unreadable.
class WordStore final : public BackingStore {
 public:
  explicit WordStore(std::uint32_t pages) : words_(pages * kWordPage.count / 4) {
    for (std::size_t i = 0; i < words_.size(); ++i)
      words_[i] = static_cast<std::uint32_t>(i * 2654435761U);
  }
  Bytes size() const override { return {words_.size() * 4}; }
  void read(Bytes offset, std::span<std::byte> out) const override {
    const auto page = static_cast<std::uint32_t>(offset / kWordPage);
    if (page == bad_page) throw StoreError("page " + std::to_string(page) + " is on a bad sector");
    reads += 1;
    bytes_read += out.size();
    std::memcpy(out.data(), reinterpret_cast<const std::byte*>(words_.data()) + offset.count,
                out.size());
  }

  static bool correct(const std::byte* page_address, std::uint32_t page) {
    for (std::size_t i = 0; i < kWordPage.count / 4; ++i) {
      std::uint32_t word = 0;
      std::memcpy(&word, page_address + i * 4, 4);
      if (word != static_cast<std::uint32_t>((page * kWordPage.count / 4 + i) * 2654435761U))
        return false;
    }
    return true;
  }

  std::atomic<std::uint32_t> bad_page = 0xffffffff;
  mutable std::atomic<std::uint64_t> reads = 0;
  mutable std::atomic<std::uint64_t> bytes_read = 0;

 private:
  std::vector<std::uint32_t> words_;
};

/// A pass that reads each page once, a step each.
inline AccessPlan cycle(std::uint32_t pages) {
  AccessPlan plan;
  for (std::uint32_t page = 0; page < pages; ++page)
    plan.steps.push_back({.reads = {{kWordPage * page, kWordPage}}});
  return plan;
}

inline ByteRange page_range(std::uint32_t page) {
  return {kWordPage * page, kWordPage};
}

}  // namespace tensor_pager::testing
