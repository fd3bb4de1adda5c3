// SPDX-License-Identifier: Apache-2.0
// The half of Core that decides which page goes to which frame, and turns decisions into commands.
#include <algorithm>
#include <utility>

#include "core/core.hpp"

namespace tensor_pager {

/// After any event: decide what can be decided, command what can be commanded.
void Core::settle() {
  plan_ahead();
  pump();
  unstick();
  fail_deadlocked();
}

/// Opens the step at `position`. Its pages that are kept are claimed first, so that none of them
/// makes room for another.
Core::PlannedStep Core::begin_step(Position position, std::span<const PageIndex> pages) {
  policy_.advance_to(position);
  PlannedStep step;
  step.position = position;
  for (const PageIndex page : pages) {
    if (policy_.contains(page)) {
      claim(step, page);
    } else {
      step.absent.push_back(page);
    }
  }
  return step;
}

void Core::claim(PlannedStep& step, PageIndex page) {
  policy_.touch(page);
  step.residencies.push_back(pages_[page.value].residency);
  ++residencies_[step.residencies.back()].promised;
}

/// Finds a place for the next absent page of the step; false if every frame is kept.
bool Core::place_next_page(PlannedStep& step, Urgency urgency) {
  const PageIndex page = step.absent[step.next];
  const ResidencyId id = pages_[page.value].residency;
  if (policy_.contains(page)) {
    // It was brought in outside the plan since the step was opened.
  } else if (id != kNone) {
    leave_limbo(id);
    make_room(urgency);
    policy_.insert(page);
    ++counters_.rescues;
  } else {
    make_room(urgency);
    const std::optional<Load> load =
        homes_ ? take_frame_at_home(page, urgency) : take_frame_in_limbo(urgency);
    if (!load) return false;
    residencies_[load->incoming].page = page;
    pages_[page.value].residency = load->incoming;
    loads_.push_back(*load);
    ++step.loads;
    policy_.insert(page);
  }
  claim(step, page);
  ++step.next;
  return true;
}

/// Lets pages go to limbo until the policy may keep one more. Pages with homes need no limbo.
void Core::make_room(Urgency urgency) {
  if (homes_) return;
  while (policy_.size() >= capacity() && give_up_victim(urgency)) {
  }
}

void Core::place_all_pages(PlannedStep& step) {
  while (!step.complete() && place_next_page(step, Urgency::demand)) {
  }
}

/// Plans the steps to come, until the loads decided ahead of their step are as many as the prefetch
/// depth.
void Core::plan_ahead() {
  const std::uint32_t depth = lookahead();
  if (depth == 0 || resting_) return;
  const Position ahead = std::min(window(), plan_.steps());
  while (true) {
    if (planned_.empty() || planned_.back().complete()) {
      if (frontier_ - position_ >= ahead || plan_.chosen_at_run_time(frontier_)) return;
      planned_.push_back(begin_step(frontier_, plan_.pages(frontier_)));
      ++frontier_;
    }
    PlannedStep& step = planned_.back();
    while (!step.complete()) {
      const Page& page = pages_[step.absent[step.next].value];
      const bool load = page.residency == kNone;
      if (load && (planned_loads_ >= depth || page.suspect)) return;
      if (!place_next_page(step, Urgency::ahead)) return;
      planned_loads_ += load ? 1 : 0;
    }
  }
}

std::optional<Core::Load> Core::take_frame_in_limbo(Urgency urgency) {
  const auto keep = [&](ResidencyId id) { return keeps(residencies_[id], urgency); };
  std::optional<Load> load = take_frame(keep);
  if (!load && give_up_victim(urgency))
    load = take_frame(keep);  // leases hold all that is in limbo
  return load;
}

/// The frame that a load will use, with the residency that must drain first: a free frame, or the
/// one longest in limbo.
std::optional<Core::Load> Core::take_frame(const Keep& keep) {
  if (!free_frames_.empty()) return take_free(*free_frames_.rbegin());
  const auto found = std::find_if_not(limbo_.begin(), limbo_.end(), keep);
  if (found == limbo_.end()) return std::nullopt;
  return displace(*found);
}

Core::Load Core::take_free(FrameIndex frame) {
  free_frames_.erase(frame);
  return {.incoming = new_residency({}, frame)};
}

/// The page gives its frame, kept or in limbo, to another.
Core::Load Core::displace(ResidencyId outgoing) {
  const PageIndex page = residencies_[outgoing].page;
  const FrameIndex frame = residencies_[outgoing].frame;
  if (residencies_[outgoing].in_limbo) {
    leave_limbo(outgoing);
  } else {
    policy_.remove(page);
  }
  if (pages_[page.value].residency == outgoing) pages_[page.value].residency = kNone;
  return {.incoming = new_residency({}, frame), .outgoing = outgoing};
}

/// Brings a page in ahead of what was decided ahead; false if that takes a frame that a planned
/// step needs, or if the page has still to leave the frame that it is in.
bool Core::load_outside_plan(PageIndex page, Position sooner_than) {
  if (leaving(page)) return false;
  std::optional<Load> load = take_unneeded_frame(page, sooner_than);
  if (!load) return false;
  load->outside_plan = true;
  residencies_[load->incoming].page = page;
  pages_[page.value].residency = load->incoming;
  policy_.insert(page);
  loads_.insert(std::find_if(loads_.begin(), loads_.end(),
                             [](const Load& queued) { return !queued.outside_plan; }),
                *load);
  return true;
}

/// A frame whose load may go before all others: its page is there, or on its way without waiting
/// for another load. A page that is kept gives way only if its next use is later than
/// `sooner_than`.
std::optional<Core::Load> Core::take_unneeded_frame(PageIndex page, Position sooner_than) {
  const auto needed = [&](ResidencyId id) {
    const Residency& residency = residencies_[id];
    return residency.pins != 0 || residency.promised != 0 ||
           residency.state == ResidencyState::planned ||
           (!residency.in_limbo && policy_.next_use(residency.page) <= sooner_than);
  };
  std::optional<Load> load = take_home(page, needed);
  return load ? load : take_any_frame(page, needed);
}

/// Whether a load that was not commanded yet takes the page out.
bool Core::leaving(PageIndex page) const {
  return std::any_of(loads_.begin(), loads_.end(), [&](const Load& load) {
    return load.outgoing != kNone && residencies_[load.outgoing].page == page &&
           residencies_[load.outgoing].state != ResidencyState::failed;
  });
}

/// Moves the page that is worth least to limbo; false if every page is kept.
bool Core::give_up_victim(Urgency urgency) {
  const auto victim = policy_.victim(
      [&](PageIndex page) { return keeps(residencies_[pages_[page.value].residency], urgency); });
  if (!victim) return false;
  policy_.remove(*victim);
  enter_limbo(pages_[victim->value].residency, /*first=*/false);
  return true;
}

bool Core::keeps(const Residency& residency, Urgency urgency) const {
  const std::uint32_t released_by_then = urgency == Urgency::ahead && residency.latest ? 1 : 0;
  return residency.pins > released_by_then;
}

bool Core::drained(const Residency& residency) const {
  return residency.promised == 0 && residency.pins == 0 && residency.fences == 0 &&
         (residency.state == ResidencyState::resident || residency.state == ResidencyState::failed);
}

/// Commands the loads whose turn it is, in the order in which they were decided.
void Core::pump() {
  while (!loads_.empty()) {
    const Load load = loads_.front();
    if (load.outgoing != kNone && !drained(residencies_[load.outgoing])) break;
    if (load.incoming != kNone && !pages_[residencies_[load.incoming].page.value].host_ready) break;
    loads_.pop_front();
    command(load);
  }
  mark_granted();
}

void Core::command(const Load& load) {
  FrameIndex frame{};
  if (load.outgoing != kNone) {
    const Residency& outgoing = residencies_[load.outgoing];
    frame = outgoing.frame;
    if (outgoing.state == ResidencyState::resident) note_eviction(outgoing.page);
    if (options_.unmap_on_evict && pages_[outgoing.page.value].mapped == frame)
      unmap(outgoing.page);
    free_residency(load.outgoing);
  }
  if (load.incoming == kNone) {
    --retiring_;
    destroy_frame(frame);
    if (retiring_ == 0) map_homes();  // of the pages that were in frames given up
    return;
  }
  command_load(load.incoming);
}

/// Brings the page to the frame of its residency.
void Core::command_load(ResidencyId id) {
  Residency& incoming = residencies_[id];
  incoming.state = ResidencyState::loading;
  Page& page = pages_[incoming.page.value];
  page.loading = id;
  if (page.mapped != incoming.frame) map(incoming.page, incoming.frame);
  ++counters_.loads;
  counters_.loaded += options_.layout.bytes_of(incoming.page).size;
  command_copy(incoming.page);
}

void Core::map(PageIndex page, FrameIndex frame) {
  forget_mapping(page);
  pages_[page.value].mapped = frame;
  frames_[frame.value].mapped.push_back(page);
  commands_.remaps.push_back(MapPage{page, frame});
  ++counters_.remaps;
}

void Core::unmap(PageIndex page) {
  forget_mapping(page);
  commands_.remaps.push_back(UnmapPage{page});
}

void Core::forget_mapping(PageIndex page) {
  std::optional<FrameIndex>& mapped = pages_[page.value].mapped;
  if (mapped) std::erase(frames_[mapped->value].mapped, page);
  mapped.reset();
}

void Core::note_eviction(PageIndex page) {
  --resident_;
  ++counters_.evictions;
  commands_.evicted.push_back(page);
}

void Core::command_copy(PageIndex page) {
  std::vector<PageRun>& copies = commands_.copies;
  const bool extends = !copies.empty() &&
                       copies.back().first.value + copies.back().count == page.value &&
                       copies.back().count < options_.pages_per_copy;
  if (extends) {
    ++copies.back().count;
  } else {
    copies.push_back({page, 1});
  }
}

/// A caller must not wait for a load that waits for a lease, perhaps its own, or for a step that
/// was not acquired, perhaps by itself: such decisions are undone and made anew.
void Core::unstick() {
  if (loads_.empty() || loads_.front().outgoing == kNone) return;
  const Residency& outgoing = residencies_[loads_.front().outgoing];
  if (outgoing.pins == 0 && outgoing.promised == 0) return;
  const bool awaited = std::any_of(leases_.begin(), leases_.end(), [](const auto& entry) {
    return !entry.second.granted && !entry.second.blocked && entry.second.failure.empty();
  });
  if (!awaited) return;
  rollback();
  plan_ahead();
  pump();
}

/// Undoes every decision that was not carried out. What remains is where pages physically are;
/// leases whose copies were not all commanded are planned anew.
void Core::rollback() {
  ++counters_.rollbacks;
  for (auto& [id, lease] : leases_) {
    if (lease.granted) continue;
    drop_pins(lease);
    lease.residencies.clear();
    lease.blocked = true;
  }
  planned_.clear();
  planned_loads_ = 0;
  for (Residency& residency : residencies_) residency.promised = 0;
  cancel_loads();
  rebuild_policy();
  frontier_ = position_;
  if (alive_ < budget_) add_frames();
  give_up_frames();
  if (homes_stale_) choose_homes();
  for (auto& [id, lease] : leases_) {
    if (!lease.blocked || !lease.failure.empty() || !fits(lease.pages)) continue;
    hold(lease, last_position());
  }
}

/// From the newest decision to the oldest, so that a page's older stay is valid again when its
/// newer one is cancelled.
void Core::cancel_loads() {
  for (; !loads_.empty(); loads_.pop_back()) {
    const Load load = loads_.back();
    if (load.incoming == kNone) {
      --retiring_;
      homes_stale_ = true;
    } else {
      Residency& incoming = residencies_[load.incoming];
      Page& page = pages_[incoming.page.value];
      if (page.residency == load.incoming) page.residency = kNone;
      if (incoming.in_limbo) {
        leave_limbo(load.incoming);
      } else if (policy_.contains(incoming.page)) {
        policy_.remove(incoming.page);
      }
      if (load.outgoing == kNone) free_frames_.insert(incoming.frame);
      frames_[incoming.frame.value].holder = load.outgoing;
      free_residency(load.incoming);
    }
    if (load.outgoing != kNone) {
      const Residency& outgoing = residencies_[load.outgoing];
      ResidencyId& residency = pages_[outgoing.page.value].residency;
      // If it failed, as copy_failed left it.
      if (outgoing.state != ResidencyState::failed ||
          (residency == kNone && (outgoing.pins != 0 || outgoing.fences != 0))) {
        residency = load.outgoing;
      }
      enter_limbo(load.outgoing, /*first=*/true);
    }
  }
}

/// Lets the policy choose again, among all pages that are in a frame, as of the step acquired last.
void Core::rebuild_policy() {
  for (ResidencyId id = 0; id < residencies_.size(); ++id) {
    const Residency& residency = residencies_[id];
    if (residency.state == ResidencyState::gone || pages_[residency.page.value].residency != id)
      continue;
    if (residency.in_limbo) leave_limbo(id);
    if (!policy_.contains(residency.page)) policy_.insert(residency.page);
  }
  policy_.set_window(window());
  policy_.set_plan(
      plan_, last_position(),
      spread_ ? streamed_pages(plan_, options_.layout.page_count(), budget_ - prefetch_frames())
              : std::vector<bool>{});
  while (policy_.size() > capacity() && give_up_victim(Urgency::demand)) {
  }
}

/// What Belady's rule would have copied, from here on. It keeps what it has.
void Core::restart_optimal() {
  optimal_.set_window(several_walkers_ ? 0 : kWholePass);
  optimal_.set_plan(plan_, last_position());
}

/// The frames of frames_to_create.
void Core::add_frames() {
  for (const FrameIndex frame : frames_to_create(budget_)) {
    if (!dead_frames_.empty()) dead_frames_.pop_back();
    ++alive_;
    free_frames_.insert(frame);
    if (frames_.size() <= frame.value) frames_.resize(frame.value + 1);
    homes_stale_ = true;
  }
}

/// Makes the frames as few as the budget says. Those that are read give way when their work has
/// passed.
void Core::give_up_frames() {
  const auto keep = [&](ResidencyId id) { return keeps(residencies_[id], Urgency::demand); };
  while (alive_ - retiring_ > budget_) {
    homes_stale_ = true;
    if (!free_frames_.empty()) {
      const FrameIndex frame = *free_frames_.rbegin();
      free_frames_.erase(frame);
      destroy_frame(frame);
      continue;
    }
    const auto load = take_frame(keep);
    if (load) {
      frames_[residencies_[load->incoming].frame.value].holder = load->outgoing;
      free_residency(load->incoming);
      loads_.push_back({.outgoing = load->outgoing});
      ++retiring_;
      continue;
    }
    if (!give_up_victim(Urgency::demand))
      return;  // leases hold them all: tried again when one ends
  }
}

/// The frame holds no page. Addresses that still point to it, from earlier stays, must not.
void Core::destroy_frame(FrameIndex frame) {
  std::vector<PageIndex> pages = frames_[frame.value].mapped;
  std::sort(pages.begin(), pages.end());
  for (const PageIndex page : pages) unmap(page);
  frames_[frame.value].holder = kNone;
  commands_.remaps.push_back(DestroyFrame{frame});
  dead_frames_.push_back(frame);
  --alive_;
}

}  // namespace tensor_pager
