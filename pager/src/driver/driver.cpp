// SPDX-License-Identifier: Apache-2.0
#include "driver/driver.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "driver/remapping.hpp"
#include "pager/errors.hpp"

namespace tensor_pager {

Driver::Driver(Device& device, const BackingStore& store, const CoreOptions& core,
               const PagerOptions& options)
    : device_(device),
      store_(store),
      layout_(core.layout),
      core_(core),
      timings_(device, options.trace),
      view_(options, core, device.info()) {
  device_.range().reserve(layout_);
  for (std::uint32_t i = 0; i < core_.frames(); ++i) device_.range().create_frame({i});
  peak_frames_ = core_.frames();
  view_.frames(core_.frames());
  for (std::uint32_t page = 0; page < layout_.page_count(); ++page) {
    missing_.push_back(layout_.bytes_of({page}).size.count);
  }
}

void Driver::require_usable() const {
  if (fatal_) std::rethrow_exception(fatal_);
}

void Driver::set_plan(const AccessPlan& plan) {
  core_.set_plan(plan);
  view_.plan_set(plan);
  ++events_;
  news_ = true;
}

LeaseId Driver::acquire(StepIndex step, std::span<const ByteRange> chosen, const Caller& caller) {
  const bool named = view_.traced() || ProfilerSpan::wanted();
  const LeaseId lease = core_.acquire(step, chosen, caller.id);
  view_.reached(step);
  return start(lease, caller, named ? view_.label(step) : LeaseLabel{});
}

LeaseId Driver::acquire(std::span<const ByteRange> ranges, const Caller& caller) {
  return start(core_.acquire(ranges, caller.id), caller, {.name = "ranges"});
}

LeaseId Driver::start(LeaseId lease, const Caller& caller, const LeaseLabel& label) {
  ++events_;
  news_ = true;  // a lease that fits no more may be another one's
  Held& held =
      held_.emplace(lease, Held{.caller = caller, .failure = nullptr, .name = {}, .span = {}})
          .first->second;
  publish();
  const bool late = core_.state(lease) != LeaseState::ready;
  if (late || view_.traced()) timings_.asked(lease, label, caller.queue, caller.stream, late);
  if (ProfilerSpan::wanted()) {
    held.name = label.name;
    held.span = ProfilerSpan("acquire " + label.name);
  }
  return lease;
}

void Driver::require_room_beside(std::span<const ByteRange> ranges) const {
  const std::size_t pages = pages_of(layout_, ranges).size();
  const Bytes minimum =
      layout_.page * (core_.pinned_pages() + pages + std::uint64_t{core_.minimum_frames()});
  if (minimum <= layout_.page * core_.budget()) return;
  throw BudgetError("pinning " + std::to_string(pages) + " pages of " +
                        std::to_string(layout_.page.count) + " bytes leaves too little for the " +
                        std::to_string(core_.minimum_frames()) +
                        " of the plan's largest step; give the arena at least " +
                        std::to_string(minimum.count) + " bytes",
                    minimum);
}

void Driver::prefetch(std::span<const ByteRange> ranges) {
  core_.prefetch(ranges);
  ++events_;
  news_ = true;
}

bool Driver::resident(std::span<const ByteRange> ranges) const {
  const std::vector<PageIndex> pages = pages_of(layout_, ranges);
  return std::ranges::all_of(pages, [&](PageIndex page) { return core_.resident(page); });
}

Driver::Answer Driver::answer(LeaseId lease) const {
  if (fatal_) return Answer::no;
  switch (core_.state(lease)) {
    case LeaseState::ready:
      return Answer::yes;
    case LeaseState::failed:
      return Answer::no;
    case LeaseState::blocked:
    case LeaseState::queued:
      return Answer::waiting;
    case LeaseState::loading:
      break;
  }
  const auto pages = core_.pages(lease);
  const bool queued = std::ranges::all_of(
      pages, [&](PageIndex page) { return copy_of_.contains(page.value) || core_.resident(page); });
  return queued ? Answer::yes : Answer::waiting;
}

/// The copies that bring in what the lease reads, oldest first.
std::vector<CopyId> Driver::copies_of(LeaseId lease) const {
  std::vector<CopyId> copies;
  for (const PageIndex page : core_.pages(lease)) {
    const auto copy = copy_of_.find(page.value);
    if (copy != copy_of_.end()) copies.push_back(copy->second);
  }
  std::ranges::sort(copies);
  copies.erase(std::unique(copies.begin(), copies.end()), copies.end());
  return copies;
}

/// Copies end in order: the last one says it all.
std::optional<CopyId> Driver::awaited(LeaseId lease) {
  if (copy_of_.empty()) return std::nullopt;
  const std::vector<CopyId> copies = copies_of(lease);
  if (copies.empty()) return std::nullopt;
  reports_.rely(lease, held_.at(lease).caller.queue, copies);
  return copies.back();
}

std::exception_ptr Driver::hand_out(LeaseId lease) {
  if (fatal_) return fatal_;
  if (std::exception_ptr failure = reports_.hand_out(lease)) return failure;
  Held& held = held_.at(lease);
  if (core_.state(lease) == LeaseState::failed) return held.failure;
  if (view_.traced()) timings_.brought_in(lease, view_.take_copies(core_.pages(lease)));
  timings_.granted(lease, held.caller.stream);
  if (ProfilerSpan::wanted()) held.span = ProfilerSpan(held.name);
  return nullptr;
}

std::exception_ptr Driver::abandon(LeaseId lease) {
  std::exception_ptr failure = fatal_ ? fatal_ : held_.at(lease).failure;
  if (!failure && core_.state(lease) == LeaseState::failed) {
    const Bytes minimum = layout_.page * (core_.pinned_pages() + core_.pages(lease).size());
    failure = std::make_exception_ptr(BudgetError(core_.failure(lease), minimum));
  }
  reports_.withdraw(lease);
  drop(lease, std::nullopt, std::nullopt);
  return failure;
}

/// A fence that cannot be recorded is tried once more: without it nobody knows when the pages may
/// go.
Driver::End Driver::end_work(StreamRef stream) {
  End end;
  end.stamp = timings_.stamp_end(stream);
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      end.fence = device_.clock().record(stream);
      end.failure = nullptr;
      break;
    } catch (const DeviceError&) {
      end.failure = std::current_exception();
    } catch (const Error&) {
      end.later = true;
      break;
    } catch (...) {
      end.failure = std::current_exception();
    }
  }
  return end;
}

void Driver::release(std::span<const LeaseId> leases, const End& end) {
  if (end.later) {
    unfenced_.insert(leases.begin(), leases.end());
    return;
  }
  if (end.failure) {
    lost_track_ = true;
    fail(end.failure);
  }
  std::optional<FenceId> fence = end.fence;
  if (fence && passed_early_.erase(*fence) != 0) fence.reset();
  if (fence) {
    fences_.insert(*fence);
    last_fence_ = std::max(last_fence_, *fence);
  }
  for (const LeaseId lease : leases) {
    unfenced_.erase(lease);
    drop(lease, fence, end.stamp);
  }
}

bool Driver::has_stamps() const {
  return timings_.traced();
}

/// What the stream was given until now, or since, is no less than what the lease covered.
void Driver::fence_the_unfenced() {
  for (const LeaseId lease : std::vector(unfenced_.begin(), unfenced_.end())) {
    release({&lease, 1}, end_work(held_.at(lease).caller.stream));
  }
}

void Driver::drop(LeaseId lease, std::optional<FenceId> fence, std::optional<StampId> stamp) {
  ++events_;
  news_ = true;
  held_.erase(lease);
  timings_.ended(lease, stamp);
  timings_.observe();  // the stream may be there already, and not say so again
  core_.release(lease, fence);
  continue_budget();
}

void Driver::begin_budget(std::uint32_t frames, CallerId caller) {
  frames = std::min(frames, layout_.page_count());
  BudgetChange change{.frames = frames, .caller = caller, .failure = nullptr};
  if (frames <= core_.frames()) {
    core_.set_budget(frames, caller);
    change.phase = BudgetChange::Phase::giving_up;
  } else if (frames < core_.minimum_frames()) {
    core_.set_budget(frames, caller);  // throws
  }
  ++events_;
  news_ = true;
  change_ = change;
  continue_budget();
}

/// What was commanded has to be carried out, too: memory that was given up is free by then.
void Driver::continue_budget() {
  if (!change_ || change_->phase != BudgetChange::Phase::giving_up) return;
  if (core_.budget_state() == BudgetState::failed) {
    finish_budget(std::make_exception_ptr(
        BudgetError(core_.budget_failure(), layout_.page * core_.pinned_pages())));
  } else if (core_.budget_state() == BudgetState::done && !core_.has_commands() && !executing_) {
    view_.frames(core_.frames());
    finish_budget(nullptr);
  }
}

void Driver::finish_budget(std::exception_ptr failure) {
  change_->phase = BudgetChange::Phase::done;
  change_->failure = std::move(failure);
  news_ = true;
}

Driver::Answer Driver::budget_answer() const {
  if (fatal_) return Answer::no;
  if (change_->phase != BudgetChange::Phase::done) return Answer::waiting;
  return change_->failure ? Answer::no : Answer::yes;
}

void Driver::end_budget() {
  const std::exception_ptr failure = fatal_ ? fatal_ : change_->failure;
  change_.reset();
  news_ = true;
  if (failure) std::rethrow_exception(failure);
}

Driver::Moment Driver::now() const {
  return {.events = events_, .fence = last_fence_, .copy = last_copy_};
}

bool Driver::idle() const {
  return fences_.empty() && in_flight_.empty() && timings_.idle() && !executing_ && !has_work();
}

bool Driver::settled(const Moment& moment) const {
  if (fatal_ || idle()) return true;
  if (events_ == moment.events) return false;
  return (fences_.empty() || *fences_.begin() > moment.fence) &&
         (in_flight_.empty() || in_flight_.front().id > moment.copy);
}

void Driver::evict_all() {
  core_.evict_all();
  ++events_;
  news_ = true;
}

void Driver::host_bytes_ready(ByteRange range) {
  for (const PageIndex page : pages_of(layout_, {&range, 1})) {
    const ByteRange bytes = layout_.bytes_of(page);
    const Bytes overlap = std::min(bytes.end(), range.end()) - std::max(bytes.offset, range.offset);
    missing_[page.value] -= overlap.count;
    if (missing_[page.value] == 0) core_.host_page_ready(page);
  }
  news_ = true;
}

bool Driver::has_work() const {
  return !fatal_ && (core_.has_commands() ||
                     (change_ && change_->phase == BudgetChange::Phase::creating && !executing_));
}

std::optional<Driver::Work> Driver::take_work() {
  if (!has_work() || executing_) return std::nullopt;
  Work work{.commands = core_.take_commands(), .frames = {}};
  if (change_ && change_->phase == BudgetChange::Phase::creating) {
    work.frames = core_.frames_to_create(change_->frames);
  }
  view_.commanded(work.commands, core_.resident_pages());
  executing_ = true;
  ++batches_;
  return work;
}

Driver::Outcome Driver::carry_out(const Work& work) const {
  Outcome outcome;
  try {
    const Trace::Time begin = Trace::Clock::now();
    remap(device_.range(), work.commands.remaps);
    view_.remapped(begin, work.commands.remaps.size());
    for (const PageRun& run : work.commands.copies) {
      Copy copy{.id = {}, .pages = run, .span = {}};
      if (ProfilerSpan::wanted()) {
        copy.span = ProfilerSpan("copy of pages " + std::to_string(run.first.value) + " to " +
                                 std::to_string(run.first.value + run.count - 1));
      }
      copy.id = device_.copies().copy(store_, run);
      outcome.started.push_back(std::move(copy));
    }
  } catch (...) {
    outcome.failure = std::current_exception();
    return outcome;
  }
  create_frames(work.frames, outcome);
  return outcome;
}

/// All or none. A frame that can neither be kept nor returned is the device's failure.
void Driver::create_frames(std::span<const FrameIndex> frames, Outcome& outcome) const {
  AddressRange& range = device_.range();
  std::size_t created = 0;
  try {
    for (; created < frames.size(); ++created) range.create_frame(frames[created]);
    return;
  } catch (...) {
    outcome.frames_failure = std::current_exception();
  }
  try {
    while (created > 0) range.destroy_frame(frames[--created]);
  } catch (...) {
    outcome.failure = std::current_exception();
  }
}

void Driver::carried_out(const Work& work, Outcome outcome) {
  executing_ = false;
  ++done_;
  news_ = true;
  for (Copy& copy : outcome.started) {
    for (std::uint32_t k = 0; k < copy.pages.count; ++k) {
      copy_of_[copy.pages.first.value + k] = copy.id;
    }
    view_.copy_started(copy.id, copy.pages);
    last_copy_ = copy.id;
    in_flight_.push_back(std::move(copy));
  }
  if (outcome.failure) fail(outcome.failure);
  if (!work.frames.empty() && !fatal_) {
    if (outcome.frames_failure) {
      finish_budget(outcome.frames_failure);
    } else {
      core_.set_budget(change_->frames, change_->caller);
      peak_frames_ = std::max(peak_frames_, core_.frames());
      view_.frames(core_.budget());
      finish_budget(nullptr);
    }
  }
  continue_budget();
}

void Driver::observe() {
  fence_the_unfenced();
  try {
    take_ended_copies();
    take_passed_fences();
  } catch (...) {
    if (fatal_) lost_track_ = true;  // nothing will ever say when queued work is done
    fail(std::current_exception());
  }
  const bool timing = !timings_.idle();
  timings_.observe();
  news_ = news_ || (timing && timings_.idle());
  if (!core_.has_commands()) view_.unchanged(core_.resident_pages());
  continue_budget();
}

/// A copy may have ended before it was reported that it was started.
void Driver::take_ended_copies() {
  while (auto ended = device_.copies().take_ended()) ended_early_.push_back(std::move(*ended));
  while (!ended_early_.empty() && !in_flight_.empty()) {
    const Copy copy = std::move(in_flight_.front());
    in_flight_.pop_front();
    end_copy(copy, ended_early_.front().failure);
    ended_early_.pop_front();
  }
}

void Driver::end_copy(const Copy& copy, const std::exception_ptr& failure) {
  news_ = true;
  reports_.ended(copy.id, failure);
  for (std::uint32_t k = 0; k < copy.pages.count; ++k) {
    const PageIndex page{copy.pages.first.value + k};
    copy_of_.erase(page.value);
    if (!failure) {
      core_.copy_finished(page);
      continue;
    }
    for (auto& [lease, held] : held_) {
      const auto pages = core_.pages(lease);
      if (std::ranges::binary_search(pages, page)) held.failure = failure;
    }
    core_.copy_failed(page, "a copy failed");
  }
  view_.copy_ended(copy.pages, !failure);
}

/// A fence may have passed before the lease's end was reported.
void Driver::take_passed_fences() {
  for (const FenceId fence : device_.clock().take_passed()) {
    if (fences_.erase(fence) == 0) {
      passed_early_.insert(fence);
      continue;
    }
    core_.fence_passed(fence);
    news_ = true;
  }
}

void Driver::fail(std::exception_ptr failure) {
  if (!fatal_) fatal_ = std::move(failure);
  news_ = true;
}

void Driver::end_all_leases() {
  std::vector<LeaseId> leases;
  for (const auto& [lease, held] : held_) leases.push_back(lease);
  for (const LeaseId lease : leases) release({&lease, 1}, end_work(held_.at(lease).caller.stream));
}

bool Driver::quiet() const {
  return !executing_ && (lost_track_ || (fences_.empty() && in_flight_.empty()));
}

Statistics Driver::statistics(const LinkStatistics& link, const MemoryStatistics& memory) const {
  return {.page = layout_.page,
          .arena = layout_.page * core_.budget(),
          .frames = core_.frames(),
          .peak_frames = peak_frames_,
          .pages = layout_.page_count(),
          .resident_pages = core_.resident_pages(),
          .core = core_.counters(),
          .link = link,
          .memory = memory,
          .stalled = timings_.stalled()};
}

void Driver::publish_all() {
  if (!view_.published()) return;
  published_link_ = device_.link();
  published_memory_ = device_.memory();
  publish();
}

void Driver::publish() {
  if (view_.published()) view_.publish(statistics(published_link_, published_memory_));
}

Bytes Driver::minimum_arena() const {
  return layout_.page * core_.minimum_frames();
}

}  // namespace tensor_pager
