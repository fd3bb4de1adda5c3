// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <stdexcept>

#include "core/core.hpp"

namespace tensor_pager {

namespace {

void require(bool holds, const char* invariant) {
  if (!holds) throw std::logic_error(std::string("core invariant violated: ") + invariant);
}

}  // namespace

void Core::check_invariants() const {
  std::vector<std::uint32_t> pins(residencies_.size());
  std::vector<std::uint32_t> promised(residencies_.size());
  std::vector<std::uint32_t> fences(residencies_.size());
  for (const auto& [id, lease] : leases_) {
    for (const ResidencyId residency : lease.residencies) ++pins[residency];
  }
  for (const PlannedStep& step : planned_) {
    for (const ResidencyId residency : step.residencies) ++promised[residency];
  }
  for (const auto& [fence, fenced] : fences_) {
    for (const ResidencyId residency : fenced) ++fences[residency];
  }

  std::map<FrameIndex, PageIndex> content;
  std::vector<bool> stays(pages_.size());
  std::uint32_t pinned = 0;
  std::uint32_t resident = 0;
  for (ResidencyId id = 0; id < residencies_.size(); ++id) {
    const Residency& residency = residencies_[id];
    require(residency.pins == pins[id], "pins are the leases that hold the page");
    require(residency.promised == promised[id],
            "promises are the planned steps that need the page");
    require(residency.fences == fences[id], "fences are those of the page's releases");
    pinned += residency.pins != 0 ? 1 : 0;
    resident += residency.state == ResidencyState::resident ? 1 : 0;
    if (residency.state == ResidencyState::gone) {
      require(pins[id] + promised[id] + fences[id] == 0, "a page that is gone is not needed");
      continue;
    }
    if (residency.state == ResidencyState::planned) continue;
    require(content.emplace(residency.frame, residency.page).second, "a frame holds one page");
    if (residency.state == ResidencyState::failed) continue;
    require(!stays[residency.page.value], "a page is in one frame");
    stays[residency.page.value] = true;
    require(pages_[residency.page.value].mapped == residency.frame,
            "a page's address points to its frame");
  }
  for (std::uint32_t page = 0; page < pages_.size(); ++page) {
    const ResidencyId id = pages_[page].residency;
    require(policy_.contains({page}) == (id != kNone && !residencies_[id].in_limbo),
            "the policy keeps the pages that have a frame outside limbo");
    require(id == kNone || residencies_[id].state != ResidencyState::gone,
            "a page's residency exists");
  }
  for (const auto& [frame, page] : content)
    require(frames_[frame.value].holder != kNone, "a frame with a page is somebody's");
  for (const FrameIndex frame : free_frames_)
    require(frames_[frame.value].holder == kNone, "a free frame is nobody's");
  std::size_t mapped = 0;
  for (std::uint32_t frame = 0; frame < frames_.size(); ++frame) {
    mapped += frames_[frame].mapped.size();
    for (const PageIndex page : frames_[frame].mapped)
      require(pages_[page.value].mapped == FrameIndex{frame}, "a frame knows who points to it");
  }
  require(mapped == static_cast<std::size_t>(
                        std::count_if(pages_.begin(), pages_.end(),
                                      [](const Page& page) { return page.mapped.has_value(); })),
          "a frame knows all who point to it");
  require(pinned == pinned_, "the count of pinned pages");
  require(resident == resident_, "the count of resident pages");
  require(content.size() <= alive_, "frames in use are frames that exist");
  require(free_frames_.size() + limbo_.size() + policy_.size() + retiring_ == alive_,
          "each frame is free, kept, in limbo or about to be given up");
  require(counters_.accesses == counters_.hits + counters_.prefetched + counters_.late,
          "accesses are hits, prefetched or late");
  require(counters_.evictions <= counters_.loads, "only what was loaded is evicted");
}

}  // namespace tensor_pager
