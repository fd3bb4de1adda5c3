// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "report/recording.hpp"
#include "report/stays.hpp"

namespace tensor_pager::pager_stats {

/// One mark of a timeline: a copy, a step or a stall, or several neighbours of which the first
/// stands for all.
struct Mark {
  double begin = 0;
  double end = 0;
  std::size_t first = 0;    ///< index of the first
  std::uint32_t count = 1;  ///< how many it stands for
};

/// At most about `limit` marks for spans that are given in order: where there are more, neighbours
/// with the least gaps between them become one. Spans of one row do not overlap; where they do,
/// they are treated as if they touched.
template <class Span>
std::vector<Mark> marks(const std::vector<Span>& spans, std::size_t limit) {
  std::vector<Mark> out;
  for (double gap = 0;; gap = gap == 0 ? 1e-7 : gap * 2) {
    out.clear();
    for (std::size_t i = 0; i < spans.size(); ++i) {
      // At first nothing is merged; later also no mark is longer than the gap allows, so that what
      // is drawn stays true to the eye.
      const bool merges = gap > 0 && !out.empty() && spans[i].begin - out.back().end <= gap &&
                          spans[i].end - out.back().begin <= 16 * gap;
      if (merges) {
        out.back().end = std::max(out.back().end, spans[i].end);
        ++out.back().count;
      } else {
        out.push_back({spans[i].begin, spans[i].end, i, 1});
      }
    }
    if (out.size() <= limit) return out;
  }
}

/// At most `limit` stays, without the shortest where there are more. Returns the shortest length
/// that is kept, in seconds; 0 if nothing was left out.
double keep_longest(std::vector<Stay>& stays, std::size_t limit);

}  // namespace tensor_pager::pager_stats
