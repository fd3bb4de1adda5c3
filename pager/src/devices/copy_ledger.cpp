// SPDX-License-Identifier: Apache-2.0
#include "devices/copy_ledger.hpp"

#include <string>
#include <utility>

namespace tensor_pager {

CopyId CopyLedger::start() {
  const std::lock_guard lock(mutex_);
  return CopyId{++started_};
}

void CopyLedger::ended(const End& end) {
  if (trace_ != nullptr) {
    const std::uint32_t last = end.pages.first.value + end.pages.count - 1;
    trace_->add({.track = Trace::Track::copies,
                 .begin = end.begin,
                 .end = end.end,
                 .name = "copy",
                 .detail = "pages " + std::to_string(end.pages.first.value) + " to " +
                           std::to_string(last) + ", " + std::to_string(end.copied.count) +
                           " bytes",
                 .copy = static_cast<std::uint64_t>(end.id),
                 .pages = end.pages,
                 .bytes = end.copied});
  }
  const std::lock_guard lock(mutex_);
  ended_ = static_cast<std::uint64_t>(end.id);
  untaken_.push_back({end.id, end.failure});
  link_.copied += end.copied;
  link_.copies += 1;
  link_.busy += end.end - end.begin;
}

bool CopyLedger::has_ended(CopyId copy) const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::uint64_t>(copy) <= ended_;
}

std::optional<EndedCopy> CopyLedger::take_ended() {
  const std::lock_guard lock(mutex_);
  if (untaken_.empty()) return std::nullopt;
  EndedCopy copy = std::move(untaken_.front());
  untaken_.pop_front();
  return copy;
}

LinkStatistics CopyLedger::statistics() const {
  const std::lock_guard lock(mutex_);
  return link_;
}

}  // namespace tensor_pager
