// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <set>
#include <vector>

namespace tensor_pager::testing {

/// Pages that must be copied in to serve `sequence` (each element the pages held at once) with
/// `frames` frames, by Belady's rule: of the pages not needed now, drop the one whose next use is
/// farthest away. Written without any code of the pager, by linear search. The rule is optimal for
/// sets, too: keeping a page between two uses is an interval of unit weight, and dropping the
/// interval that ends last is the optimal way to respect a capacity that varies over time.
inline std::uint64_t belady_copies(const std::vector<std::set<std::uint32_t>>& sequence,
                                   std::size_t frames) {
  std::set<std::uint32_t> kept;
  std::uint64_t copies = 0;
  const auto next_use = [&](std::uint32_t page, std::size_t now) {
    std::size_t at = now + 1;
    while (at < sequence.size() && !sequence[at].contains(page)) ++at;
    return at;
  };
  for (std::size_t now = 0; now < sequence.size(); ++now) {
    for (const std::uint32_t page : sequence[now]) copies += kept.insert(page).second ? 1 : 0;
    while (kept.size() > frames) {
      std::uint32_t farthest = 0;
      std::size_t farthest_use = 0;
      for (const std::uint32_t page : kept) {
        if (sequence[now].contains(page)) continue;
        const std::size_t use = next_use(page, now);
        if (use >= farthest_use) {
          farthest = page;
          farthest_use = use;
        }
      }
      kept.erase(farthest);
    }
  }
  return copies;
}

/// The same for plain LRU: drop the page that was used longest ago (of several used in one step,
/// the lowest).
inline std::uint64_t lru_copies(const std::vector<std::set<std::uint32_t>>& sequence,
                                std::size_t frames) {
  std::vector<std::uint32_t> order;  // least recently used first
  std::uint64_t copies = 0;
  for (const std::set<std::uint32_t>& step : sequence) {
    for (const std::uint32_t page : step) {
      if (std::erase(order, page) == 0) ++copies;
    }
    while (order.size() + step.size() > frames) order.erase(order.begin());
    order.insert(order.end(), step.begin(), step.end());
  }
  return copies;
}

}  // namespace tensor_pager::testing
