// SPDX-License-Identifier: Apache-2.0
#include "driver/stream_reports.hpp"

#include <string>
#include <utility>

#include "pager/errors.hpp"

namespace tensor_pager {

void StreamReport::raise() const {
  if (copies <= 1) std::rethrow_exception(first);
  const std::string more =
      "; " + std::to_string(copies - 1) + " further copies that this stream waited for failed, too";
  try {
    std::rethrow_exception(first);
  } catch (const StoreError& error) {
    throw StoreError(error.what() + more);
  } catch (const DeviceError& error) {
    throw DeviceError(error.what() + more);
  }
}

void StreamReports::rely(LeaseId lease, StreamId stream, std::span<const CopyId> copies) {
  pending_.try_emplace(lease);
  for (const CopyId copy : copies) relying_.emplace(copy, Work{lease, stream});
}

std::exception_ptr StreamReports::hand_out(LeaseId lease) {
  const auto pending = pending_.extract(lease);
  if (pending.empty() || !pending.mapped().failure) return nullptr;
  withdraw(lease);
  return pending.mapped().failure;
}

void StreamReports::withdraw(LeaseId lease) {
  pending_.erase(lease);
  std::erase_if(relying_, [&](const auto& entry) { return entry.second.lease == lease; });
}

void StreamReports::ended(CopyId copy, const std::exception_ptr& failure) {
  const auto [first, last] = relying_.equal_range(copy);
  for (auto it = first; failure && it != last; ++it) {
    const Work& work = it->second;
    if (const auto pending = pending_.find(work.lease); pending != pending_.end()) {
      pending->second.failure = failure;
      continue;
    }
    StreamReport& report = reports_[work.stream];
    if (!report.first) report.first = failure;
    ++report.copies;
  }
  relying_.erase(first, last);
}

bool StreamReports::relying(StreamId stream) const {
  for (const auto& [copy, work] : relying_) {
    if (work.stream == stream) return true;
  }
  return false;
}

std::optional<StreamReport> StreamReports::take(StreamId stream) {
  const auto report = reports_.extract(stream);
  if (report.empty()) return std::nullopt;
  return report.mapped();
}

std::optional<StreamReport> StreamReports::take_all() {
  if (reports_.empty()) return std::nullopt;
  StreamReport all;
  for (auto& [stream, report] : std::exchange(reports_, {})) {
    if (!all.first) all.first = report.first;
    all.copies += report.copies;
  }
  return all;
}

}  // namespace tensor_pager
