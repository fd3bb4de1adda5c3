// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pager/export.hpp"
#include "pager/types.hpp"

namespace tensor_pager {

/// What one step of a pass reads from the image.
struct PlanStep {
  /// Bytes that the step always reads; any order, overlaps allowed.
  std::vector<ByteRange> reads{};
  /// Bytes among which the caller chooses when it acquires the step (the experts of a router, say).
  /// Empty for a step that is known in advance.
  std::vector<ByteRange> choices{};
  /// How many of `choices` are acquired at once, at most. It decides the smallest arena that can
  /// run the plan.
  std::uint32_t choose_at_most = 0;
  /// What traces and profilers call it; empty for "step 12".
  std::string name{};
};

/// The steps of one pass, in order. A pass is repeated: after the last step comes the first.
/// The plan is what makes lookahead possible; a caller that knows nothing about its future needs
/// none.
struct AccessPlan {
  std::vector<PlanStep> steps;
  /// Instead of PolicyOptions::prefetch_depth while this is the plan; nothing: that.
  std::optional<std::uint32_t> prefetch_depth{};
  /// For tools that watch (PublishedState): what a pass is called, "prefill" say, how much it works
  /// through, and of what: 512 "tokens". The texts are cut after 15 bytes.
  std::string name{};
  std::uint64_t work = 0;
  std::string unit{};
};

/// The pages of `ranges` under `layout`: ascending, each once. Throws Error if a range leaves the
/// image.
TENSOR_PAGER_EXPORT std::vector<PageIndex> pages_of(const PageLayout& layout,
                                                    std::span<const ByteRange> ranges);

}  // namespace tensor_pager
