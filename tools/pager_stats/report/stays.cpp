// SPDX-License-Identifier: Apache-2.0
#include "report/stays.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace tensor_pager::pager_stats {
namespace {

class Residents {
 public:
  explicit Residents(std::uint32_t pages) : since_(pages) {}

  void apply(const ResidencyChange& change) {
    for (std::uint32_t k = 0; k < change.pages.count; ++k) {
      std::optional<double>& since = since_[change.pages.first.value + k];
      if (since.has_value() == change.arrived) {
        throw TraceError(
            fmt::format("the trace is damaged: page {} {}", change.pages.first.value + k,
                        change.arrived ? "comes and is there" : "goes and is not there"));
      }
      if (change.arrived) since = change.at;
    }
    if (!change.arrived) end(change.pages, change.at);
  }

  std::vector<Stay> take(double now) {
    for (std::uint32_t page = 0; page < since_.size(); ++page) {
      if (!since_[page]) continue;
      std::uint32_t count = 1;
      while (page + count < since_.size() && since_[page + count]) ++count;
      end({{page}, count}, now);
    }
    std::ranges::stable_sort(stays_, {}, &Stay::from);
    return std::move(stays_);
  }

 private:
  void end(PageRun pages, double at) {
    for (std::uint32_t k = 0; k < pages.count; ++k) {
      std::optional<double>& since = since_[pages.first.value + k];
      if (k > 0 && stays_.back().from == *since) {
        ++stays_.back().pages.count;
      } else {
        stays_.push_back({{{pages.first.value + k}, 1}, *since, at});
      }
      since.reset();
    }
  }

  std::vector<std::optional<double>> since_;  // by page
  std::vector<Stay> stays_;
};

}  // namespace

std::vector<Stay> stays(const Recording& recording) {
  Residents residents(recording.layout.page_count());
  for (const ResidencyChange& change : recording.changes) residents.apply(change);
  return residents.take(recording.end());
}

}  // namespace tensor_pager::pager_stats
