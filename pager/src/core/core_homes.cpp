// SPDX-License-Identifier: Apache-2.0
// The part of Core that gives every page of a plan a frame of its own or a slot of a ring, so that
// a pass that repeats changes no mappings.
#include <algorithm>
#include <utility>

#include "core/core.hpp"

namespace tensor_pager {

/// Chooses what the plan and the budget allow: a home for every page, kept pages spread over the
/// pass, or Belady's order.
void Core::choose_placement() {
  spread_ = false;
  homes_ = false;
  homes_stale_ = true;
  kept_pages_.clear();
  ring_.clear();
  const std::vector<PageIndex> read = plan_.pages_read();
  if (read.empty() || window() < plan_.steps()) return;
  for (Position step = 0; step < plan_.steps(); ++step) {
    if (plan_.chosen_at_run_time(step)) return;  // what it reads cannot be foreseen
  }
  if (read.size() <= budget_) {
    homes_ = !options_.unmap_on_evict;
    if (homes_) kept_pages_ = read;
    return;
  }
  const std::uint32_t step = plan_.largest_step();
  const std::uint32_t depth = depth_of(/*spread=*/true);
  if (depth > step && depth < budget_) {
    homes_ = ring_serves(budget_ - depth, depth - step);
    spread_ = homes_ || spreads(budget_ - depth);
  }
  if (!spread_ && depth_of(false) + step == budget_ && keeps_nothing(step))
    homes_ = ring_serves(0, budget_ - step);
}

/// Whether `kept` pages spread over the pass, and limbo, copy as little as can be: no rule with
/// `kept` frames copies less than each page once and, in every further pass, all but as many.
bool Core::spreads(std::uint32_t kept) const {
  const std::uint32_t pages = options_.layout.page_count();
  OptimalLoads rule(plan_, pages, kept + plan_.largest_step());
  rule.set_plan(plan_, plan_.steps() - 1, streamed_pages(plan_, pages, kept));
  const std::size_t read = plan_.pages_read().size();
  Position at = plan_.steps();
  for (const std::size_t least : {read, read - kept, read - kept}) {
    std::size_t loads = 0;
    for (const Position end = at + plan_.steps(); at < end; ++at)
      loads += rule.access(at, plan_.pages(at)).size();
    if (loads > least) return false;
  }
  return true;
}

/// Whether Belady's rule with so few frames copies every page in every pass.
bool Core::keeps_nothing(std::uint32_t frames) const {
  OptimalLoads rule(plan_, options_.layout.page_count(), frames);
  rule.set_plan(plan_, plan_.steps() - 1);
  const std::size_t read = plan_.pages_read().size();
  Position at = plan_.steps();
  for (int pass = 0; pass < 3; ++pass) {
    std::size_t loads = 0;
    for (const Position end = at + plan_.steps(); at < end; ++at)
      loads += rule.access(at, plan_.pages(at)).size();
    if (loads < read) return false;
  }
  return true;
}

/// Cuts the streamed pages, in the order of their first use, into laps of a ring of the frames that
/// keep no page. Laps differ by one page at most, so that as many pages in a row as the shortest
/// has lie in different frames, across the end of a pass, too. False, and no ring, if a lap leaves
/// less than half of `ahead` beside a step, or if some page were copied twice in a pass.
bool Core::ring_serves(std::uint32_t kept, std::uint32_t ahead) {
  if (options_.unmap_on_evict) return false;
  const std::vector<bool> streamed = streamed_pages(plan_, options_.layout.page_count(), kept);
  std::vector<PageIndex> sequence;
  kept_pages_.clear();
  ring_.clear();
  for (const PageIndex page : plan_.pages_read())
    (streamed[page.value] ? sequence : kept_pages_).push_back(page);
  const std::size_t size = sequence.size();
  const std::size_t laps = (size + budget_ - kept - 1) / (budget_ - kept);
  if (size / laps >= plan_.largest_step() + (ahead + 1) / 2) {
    ring_.resize((size + laps - 1) / laps);
    for (std::size_t lap = 0; lap < laps; ++lap) {
      const std::size_t first = lap * size / laps;
      for (std::size_t i = first; i < (lap + 1) * size / laps; ++i)
        ring_[i - first].push_back(sequence[i]);
    }
    if (ring_copies_once()) return true;
  }
  kept_pages_.clear();
  ring_.clear();
  return false;
}

/// Whether a pass in which every streamed page displaces the one in its slot copies none twice, and
/// none that a step needs is displaced by another of the same step.
bool Core::ring_copies_once() const {
  constexpr std::uint32_t kNoSlot = 0xffffffff;
  std::vector<std::uint32_t> slots(options_.layout.page_count(), kNoSlot);
  for (std::uint32_t slot = 0; slot < ring_.size(); ++slot) {
    for (const PageIndex page : ring_[slot]) slots[page.value] = slot;
  }
  std::vector<std::optional<PageIndex>> content(ring_.size());
  std::vector<Position> used(ring_.size(), kNever);
  const std::size_t streamed = plan_.pages_read().size() - kept_pages_.size();
  for (Position pass = 0; pass < 3; ++pass) {
    std::size_t loads = 0;
    for (Position at = pass * plan_.steps(); at < (pass + 1) * plan_.steps(); ++at) {
      for (const PageIndex page : plan_.pages(at)) {
        const std::uint32_t slot = slots[page.value];
        if (slot == kNoSlot) continue;
        if (std::exchange(used[slot], at) == at) return false;
        if (std::exchange(content[slot], page) != page) ++loads;
      }
    }
    if (loads > streamed) return false;
  }
  return true;
}

/// Gives every page of the plan its frame: where it is, or else where its address points, if no
/// other page has that; and lets all addresses point there now. A page that is elsewhere, or that
/// work may still read, moves when it is next copied.
void Core::choose_homes() {
  homes_stale_ = false;
  for (Page& page : pages_) page.home.reset();
  for (Frame& frame : frames_) frame.home = false;
  if (!homes_) return;
  std::vector<std::vector<PageIndex>> groups = ring_;
  for (const PageIndex page : kept_pages_) groups.push_back({page});
  std::set<FrameIndex> unclaimed = free_frames_;
  for (const ResidencyId id : limbo_) unclaimed.insert(residencies_[id].frame);
  for (const Page& page : pages_) {
    if (page.residency != kNone) unclaimed.insert(residencies_[page.residency].frame);
  }
  const auto claim = [&](std::vector<PageIndex>& group, std::optional<FrameIndex> frame) {
    if (!frame || unclaimed.erase(*frame) == 0) return false;
    frames_[frame->value].home = true;
    for (const PageIndex page : std::exchange(group, {})) pages_[page.value].home = frame;
    return true;
  };
  for (std::vector<PageIndex>& group : groups) {
    std::ignore = std::any_of(group.begin(), group.end(), [&](PageIndex page) {
      const ResidencyId id = pages_[page.value].residency;
      return id != kNone && claim(group, residencies_[id].frame);
    });
  }
  for (std::vector<PageIndex>& group : groups) {
    if (!group.empty()) claim(group, pages_[group.front().value].mapped);
  }
  for (std::vector<PageIndex>& group : groups) {
    if (!group.empty()) claim(group, *unclaimed.begin());
  }
  map_homes();
}

void Core::map_homes() {
  const std::vector<bool> read = pages_in_frames();
  for (std::uint32_t page = 0; page < pages_.size(); ++page) {
    const std::optional<FrameIndex> home = pages_[page].home;
    if (home && !read[page] && pages_[page].mapped != home) map({page}, *home);
  }
}

/// Pages whose content is in a frame or on its way, or whose address work may still read through.
std::vector<bool> Core::pages_in_frames() const {
  std::vector<bool> pages(pages_.size());
  for (const Residency& residency : residencies_) {
    const bool idle =
        residency.state == ResidencyState::failed && residency.pins == 0 && residency.fences == 0;
    if (residency.state != ResidencyState::gone && !idle) pages[residency.page.value] = true;
  }
  return pages;
}

/// A frame for a planned page: its home, unless leases hold that. What is planned ahead waits for
/// the steps that need the page there.
std::optional<Core::Load> Core::take_frame_at_home(PageIndex page, Urgency urgency) {
  const auto keep = [&](ResidencyId id) {
    return residencies_[id].promised != 0 || keeps(residencies_[id], urgency);
  };
  const std::optional<FrameIndex> home = pages_[page.value].home;
  const ResidencyId holder = home ? frames_[home->value].holder : kNone;
  if (urgency == Urgency::ahead && holder != kNone && residencies_[holder].promised != 0)
    return std::nullopt;
  std::optional<Load> load = take_home(page, keep);
  return load ? load : take_any_frame(page, keep);
}

/// The page's home, if it has one and nothing there is to be kept.
std::optional<Core::Load> Core::take_home(PageIndex page, const Keep& keep) {
  const std::optional<FrameIndex> home = pages_[page.value].home;
  if (!home) return std::nullopt;
  const ResidencyId holder = frames_[home->value].holder;
  if (holder == kNone) return take_free(*home);
  if (keep(holder) || outweighs(residencies_[holder], keep)) return std::nullopt;
  return displace(holder);
}

/// Whether a page from outside the plan that is a guest in a home is worth more than what would
/// leave otherwise. Only what is used again and again is worth a change of mappings in each lap.
bool Core::outweighs(const Residency& guest, const Keep& keep) const {
  if (guest.in_limbo || pages_[guest.page.value].home || !policy_.repeats(guest.page)) return false;
  const auto victim =
      policy_.victim([&](PageIndex page) { return keep(pages_[page.value].residency); });
  return victim && policy_.next_use(guest.page) < policy_.next_use(*victim);
}

/// Where the page's address points anyway, a frame that is nobody's home, any free one, the one
/// longest in limbo, or that of the page that is worth least.
std::optional<Core::Load> Core::take_any_frame(PageIndex page, const Keep& keep) {
  if (!free_frames_.empty()) {
    const std::optional<FrameIndex> mapped = pages_[page.value].mapped;
    if (mapped && free_frames_.contains(*mapped)) return take_free(*mapped);
    const auto spare = std::find_if(free_frames_.begin(), free_frames_.end(),
                                    [&](FrameIndex frame) { return !frames_[frame.value].home; });
    return take_free(spare != free_frames_.end() ? *spare : *free_frames_.begin());
  }
  const auto found = std::find_if_not(limbo_.begin(), limbo_.end(), keep);
  if (found != limbo_.end()) return displace(*found);
  const auto victim =
      policy_.victim([&](PageIndex kept) { return keep(pages_[kept.value].residency); });
  if (!victim) return std::nullopt;
  return displace(pages_[victim->value].residency);
}

}  // namespace tensor_pager
