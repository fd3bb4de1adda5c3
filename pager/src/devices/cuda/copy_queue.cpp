// SPDX-License-Identifier: Apache-2.0
#include "devices/cuda/copy_queue.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "devices/cuda/stream_checks.hpp"

namespace tensor_pager::cuda {

namespace {

/// How far an imitated link may be behind and still catch up: threads sleep longer than they ask
/// for.
constexpr std::chrono::milliseconds kPaceSlack{1};

}  // namespace

StagingBuffer::~StagingBuffer() {
  const CurrentContext current(context_, std::nothrow);
  if (current && data_ != nullptr) driver().cuMemFreeHost(data_);
}

std::span<std::byte> StagingBuffer::get(Bytes size) {
  if (data_ == nullptr) {
    check(driver().cuMemAllocHost(&data_, size.count), "cuMemAllocHost", size);
  }
  return {static_cast<std::byte*>(data_), size.count};
}

CopyQueue::CopyQueue(const Context& context, const PagedRange& range, Poller& poller,
                     const FirstFailure& failure, const Options& options)
    : context_(context),
      range_(range),
      poller_(poller),
      failure_(failure),
      link_bytes_per_second_(options.link_bytes_per_second),
      ledger_(options.trace),
      events_(context, CU_EVENT_DEFAULT),
      staging_(context),
      stream_(context) {}

CopyId CopyQueue::copy(const BackingStore& store, PageRun pages) {
  CopyId id{};
  {
    const CurrentContext current(context_);
    if (link_bytes_per_second_ > 0) pace(range_.layout().bytes_of(pages.first, pages.count).size);
    Copy copy{.id = {}, .pages = pages, .begin = {}, .end = {}, .failure = nullptr};
    queue(store, copy);
    const std::lock_guard lock(mutex_);
    under_way_.push_back(std::move(copy));
    id = under_way_.back().id = ledger_.start();
  }
  poller_.wake();
  return id;
}

/// Lets a copy start when the slower link that is imitated would have carried those before it.
void CopyQueue::pace(Bytes size) {
  std::this_thread::sleep_until(link_free_);
  const double seconds = static_cast<double>(size.count) / link_bytes_per_second_;
  link_free_ = std::max(link_free_, Trace::Clock::now() - kPaceSlack) +
               std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 * seconds));
}

/// What goes wrong is the copy's failure; it ends after those before it all the same.
void CopyQueue::queue(const BackingStore& store, Copy& copy) noexcept {
  try {
    Event begin = events_.take();
    copy.end = events_.take();
    check(driver().cuEventRecord(begin.handle(), stream_.handle()), "cuEventRecord before a copy");
    copy.begin = std::move(begin);
    queue_bytes(store, range_.layout().bytes_of(copy.pages.first, copy.pages.count));
  } catch (...) {
    copy.failure = std::current_exception();
  }
  queue_end(copy);
}

void CopyQueue::queue_end(Copy& copy) noexcept {
  try {
    if (!copy.end) copy.end = events_.take();
    check(driver().cuEventRecord(copy.end.handle(), stream_.handle()),
          "cuEventRecord after a copy");
  } catch (...) {
    if (!copy.failure) copy.failure = std::current_exception();
    copy.end = {};
    driver().cuStreamSynchronize(stream_.handle());  // nothing can tell later when it ends
  }
}

/// Whatever is pinned, the GPU fetches by itself; a run of pages is one copy, since neighbours lie
/// side by side in both address ranges.
void CopyQueue::queue_bytes(const BackingStore& store, ByteRange bytes) {
  while (bytes.size > Bytes{0}) {
    const Bytes pinned = store.pinned(bytes.offset, bytes.size);
    if (pinned == Bytes{0}) return queue_staged(store, bytes);
    queue_piece(bytes.offset, {store.data() + bytes.offset.count, pinned.count});
    bytes.offset += pinned;
    bytes.size -= pinned;
  }
}

void CopyQueue::queue_staged(const BackingStore& store, ByteRange bytes) {
  const Bytes page = range_.layout().page;
  const std::span<std::byte> staging = staging_.get(page);
  while (bytes.size > Bytes{0}) {
    const Bytes piece = std::min(bytes.size, page);
    check(driver().cuStreamSynchronize(stream_.handle()), "waiting for the staging buffer");
    store.read(bytes.offset, staging.first(piece.count));
    queue_piece(bytes.offset, staging.first(piece.count));
    bytes.offset += piece;
    bytes.size -= piece;
  }
}

void CopyQueue::queue_piece(Bytes offset, std::span<const std::byte> bytes) {
  check(driver().cuMemcpyHtoDAsync(range_.address(offset), bytes.data(), bytes.size(),
                                   stream_.handle()),
        "cuMemcpyHtoDAsync", {bytes.size()});
}

std::optional<EndedCopy> CopyQueue::take_ended() {
  context_.require_here();
  std::optional<EndedCopy> ended = ledger_.take_ended();
  if (!ended) failure_.rethrow();
  return ended;
}

void CopyQueue::wait(StreamRef stream, CopyId copy) {
  const CurrentContext current(context_);
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(under_way_.begin(), under_way_.end(),
                                  [&](const Copy& c) { return c.id == copy; });
  if (found == under_way_.end() || !found->end) return;
  require_not_captured(stream);
  check(driver().cuStreamWaitEvent(stream_of(stream), found->end.handle(), 0), "cuStreamWaitEvent");
}

LinkStatistics CopyQueue::statistics() const {
  context_.require_here();
  return ledger_.statistics();
}

Poller::Seen CopyQueue::observe(const EventTimes& times) {
  const std::lock_guard lock(mutex_);
  bool progress = false;
  while (!under_way_.empty()) {
    const Copy& oldest = under_way_.front();
    if (oldest.end && !has_passed(oldest.end, "a copy")) break;
    finish(oldest, times);
    under_way_.pop_front();
    progress = true;
  }
  return {.pending = !under_way_.empty(), .progress = progress};
}

/// The time between the two events is more exact than the times themselves.
void CopyQueue::finish(const Copy& copy, const EventTimes& times) {
  const Trace::Time end = copy.end ? times.of(copy.end) : Trace::Clock::now();
  const bool timed = copy.begin && copy.end;
  const std::chrono::nanoseconds took =
      timed ? EventTimes::between(copy.begin, copy.end) : std::chrono::nanoseconds{};
  const Bytes size = range_.layout().bytes_of(copy.pages.first, copy.pages.count).size;
  ledger_.ended({.id = copy.id,
                 .pages = copy.pages,
                 .begin = end - took,
                 .end = end,
                 .copied = copy.failure ? Bytes{} : size,
                 .failure = copy.failure});
}

}  // namespace tensor_pager::cuda
