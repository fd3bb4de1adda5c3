// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "pager/published.hpp"
#include "stats_file.hpp"

namespace tensor_pager::pager_stats {

/// What a running pager looks like at a moment.
struct Sample {
  PublishedState state;
  std::vector<PageState> pages;
  std::vector<std::uint32_t> loads;  ///< by page: how often it was copied in

  /// Throws Error, as PublishedPager::read.
  explicit Sample(const PublishedPager& pager);
};

/// A part of the image, and what became of it.
struct PartTraffic {
  std::string name;
  Bytes size;
  Bytes resident;
  Bytes copied;  ///< in all, so often more than its size
};

/// Every named part of the image, in the order in which it was named. Bytes of a page that two
/// parts share count for each as far as they are its own.
std::vector<PartTraffic> traffic_by_part(const PublishedPager& pager, const Sample& sample);

enum class PartOrder { image, name, size, resident, copied };
/// Names in ascending order, amounts in descending order.
void sort_parts(std::vector<PartTraffic>& parts, PartOrder order);

struct LiveView {
  std::size_t width = 80;  ///< of lines, in columns
  std::optional<PartOrder> parts{};
  std::size_t most_parts = SIZE_MAX;
};

/// For people to read: how it stands, and what went on since `before`, which is earlier by the
/// difference of their ages. Lines are not longer than the view is wide.
std::string live_table(const PublishedPager& pager, const Sample& before, const Sample& now,
                       const LiveView& view);

/// Counters by the names that a statistics file has for them, with plan.step and time.running_s.
std::vector<Field> live_fields(const PublishedPager& pager, const PublishedState& state);

/// The parts as an array of objects.
nlohmann::ordered_json parts_json(const std::vector<PartTraffic>& parts);

}  // namespace tensor_pager::pager_stats
