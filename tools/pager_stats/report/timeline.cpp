// SPDX-License-Identifier: Apache-2.0
#include "report/timeline.hpp"

#include <algorithm>

namespace tensor_pager::pager_stats {

double keep_longest(std::vector<Stay>& stays, std::size_t limit) {
  if (stays.size() <= limit) return 0;
  std::vector<double> lengths;
  lengths.reserve(stays.size());
  for (const Stay& stay : stays) lengths.push_back(stay.to - stay.from);
  const auto shortest = lengths.end() - static_cast<std::ptrdiff_t>(limit);
  std::ranges::nth_element(lengths, shortest);
  const double kept = *shortest;
  std::erase_if(stays, [&](const Stay& stay) { return stay.to - stay.from < kept; });
  stays.resize(std::min(stays.size(), limit));  // some are as long as the shortest that is kept
  return kept;
}

}  // namespace tensor_pager::pager_stats
