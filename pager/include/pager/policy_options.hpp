// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

namespace tensor_pager {

/// A window as long as the pass, however long that is.
inline constexpr std::uint32_t kWholePass = std::numeric_limits<std::uint32_t>::max();

/// As many pages as it takes to bring in a step while another is computed: those of the plan's
/// largest step, or of two where kept pages are spread over the pass (Core); at least 4.
inline constexpr std::uint32_t kWholeSteps = std::numeric_limits<std::uint32_t>::max();

struct PolicyOptions {
  /// How many steps ahead the policy knows the plan. 0 is plain LRU without prefetch; a whole pass
  /// is Belady's optimum.
  std::uint32_t window = kWholePass;
  /// How many pages may be brought in for steps that were not acquired yet. Each costs one frame
  /// that keeps no page.
  std::uint32_t prefetch_depth = kWholeSteps;
};

}  // namespace tensor_pager
