// SPDX-License-Identifier: Apache-2.0
#include "report/traffic.hpp"

#include <algorithm>
#include <cctype>
#include <map>

namespace tensor_pager::pager_stats {
namespace {

constexpr const char* kNoName = "(no name)";

/// The parts in the order of the image, without what an earlier one has.
std::vector<PartCopies> disjoint_parts(std::vector<NamedRange> named) {
  std::ranges::stable_sort(named, {}, [](const NamedRange& part) { return part.bytes.offset; });
  std::vector<PartCopies> parts;
  Bytes covered;
  for (NamedRange& part : named) {
    const Bytes begin = std::max(part.bytes.offset, covered);
    const Bytes end = std::max(begin, part.bytes.end());
    covered = end;
    parts.push_back({std::move(part.name), {begin, end - begin}, 0, {}});
  }
  return parts;
}

/// Gives copied bytes to the parts that have them.
class Attribution {
 public:
  explicit Attribution(std::vector<NamedRange> named, Bytes image)
      : parts_(disjoint_parts(std::move(named))) {
    Bytes sum;
    for (const PartCopies& part : parts_) sum += part.bytes.size;
    rest_ = {kNoName, {image, {}}, 0, {}};
    unnamed_ = image - sum;
  }

  void add(const ByteRange& range, Bytes Copied::*when) {
    Bytes at = range.offset;
    auto part = std::ranges::partition_point(
        parts_, [&](const PartCopies& p) { return p.bytes.end() <= range.offset; });
    for (; part != parts_.end() && part->bytes.offset < range.end(); ++part) {
      if (part->bytes.size == Bytes{}) continue;
      const Bytes begin = std::max(at, part->bytes.offset);
      const Bytes end = std::min(part->bytes.end(), range.end());
      rest_.copied.*when += begin - at;
      part->copied.*when += end - begin;
      at = end;
    }
    rest_.copied.*when += range.end() - at;
  }

  std::vector<PartCopies> take() {
    if (unnamed_ > Bytes{}) {
      rest_.bytes.size = unnamed_;
      parts_.push_back(std::move(rest_));
    }
    return std::move(parts_);
  }

 private:
  std::vector<PartCopies> parts_;
  PartCopies rest_;
  Bytes unnamed_;
};

std::vector<GroupCopies> group(std::vector<PartCopies>& parts) {
  std::vector<GroupCopies> groups;
  std::map<std::string, std::uint32_t> index;
  for (PartCopies& part : parts) {
    const std::string name = part.name == kNoName ? kNoName : group_of(part.name);
    part.group = index.emplace(name, static_cast<std::uint32_t>(groups.size())).first->second;
    if (part.group == groups.size()) {
      groups.push_back({name, {}, {part.bytes.offset, {}}, {}});
    }
    GroupCopies& sum = groups[part.group];
    sum.size += part.bytes.size;
    sum.copied.first_plan += part.copied.first_plan;
    sum.copied.later += part.copied.later;
    if (name != kNoName) sum.extent.size = part.bytes.end() - sum.extent.offset;
  }
  return groups;
}

}  // namespace

std::string group_of(const std::string& part) {
  std::size_t begin = 0;
  while (begin < part.size()) {
    const std::size_t end = std::min(part.find('.', begin), part.size());
    const bool is_number =
        end > begin && std::all_of(part.begin() + static_cast<std::ptrdiff_t>(begin),
                                   part.begin() + static_cast<std::ptrdiff_t>(end),
                                   [](unsigned char c) { return std::isdigit(c) != 0; });
    if (is_number) return part.substr(0, end);
    begin = end + 1;
  }
  return part.substr(0, part.find('.'));
}

Traffic traffic(const Recording& recording) {
  Attribution attribution(recording.parts, recording.layout.image);
  const bool replanned = recording.plans.size() > 1;
  for (const RecordedCopy& copy : recording.copies) {
    const bool later = replanned && copy.begin >= recording.plans[1].set;
    attribution.add({recording.layout.page * copy.pages.first.value, copy.bytes},
                    later ? &Copied::later : &Copied::first_plan);
  }
  Traffic traffic{attribution.take(), {}};
  traffic.groups = group(traffic.parts);
  return traffic;
}

}  // namespace tensor_pager::pager_stats
