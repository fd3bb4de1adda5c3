// SPDX-License-Identifier: Apache-2.0
#include "devices/host/copy_engine.hpp"

#include <chrono>
#include <cstdint>
#include <exception>
#include <utility>

namespace tensor_pager {

/// The ledger, and the means to wait for a copy in it.
class HostCopyEngine::Endings {
 public:
  explicit Endings(Trace* trace) : ledger_(trace) {}

  CopyLedger& ledger() { return ledger_; }

  void ended(const CopyLedger::End& end) {
    ledger_.ended(end);
    const std::lock_guard lock(mutex_);  // nobody is between looking and waiting
    changed_.notify_all();
  }
  void wait_for(CopyId copy) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ledger_.has_ended(copy); });
  }

 private:
  CopyLedger ledger_;
  std::mutex mutex_;
  std::condition_variable changed_;
};

HostCopyEngine::HostCopyEngine(const HostDeviceOptions& options, Transfers transfers,
                               std::shared_ptr<Progress> progress)
    : options_(options),
      transfers_(std::move(transfers)),
      progress_(std::move(progress)),
      endings_(std::make_shared<Endings>(options.trace)),
      thread_([this] { run(); }) {}

HostCopyEngine::~HostCopyEngine() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

CopyId HostCopyEngine::copy(const BackingStore& store, PageRun pages) {
  require_here();
  Request request{.id = {}, .transfers = {}, .pages = pages};
  for (std::uint32_t k = 0; k < pages.count; ++k) {
    request.transfers.push_back(transfers_(store, {pages.first.value + k}));
  }
  const std::lock_guard lock(mutex_);
  Request& queued = requests_.emplace_back(std::move(request));
  queued.id = endings_->ledger().start();  // last: a number that was given out ends
  changed_.notify_all();
  return queued.id;
}

void HostCopyEngine::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !requests_.empty(); });
    if (requests_.empty()) return;
    const Request request = std::move(requests_.front());
    requests_.pop_front();
    lock.unlock();
    carry_out(request);
    progress_->announce();
    lock.lock();
  }
}

void HostCopyEngine::carry_out(const Request& request) {
  CopyLedger::End end{
      .id = request.id, .pages = request.pages, .begin = Trace::Clock::now(), .end = {}};
  try {
    for (const Transfer& transfer : request.transfers) end.copied += transfer();
  } catch (...) {
    end.failure = std::current_exception();
  }
  pace(end.begin, end.copied);
  end.end = Trace::Clock::now();
  endings_->ended(end);
}

/// Makes the copy take as long as the link that is imitated would.
void HostCopyEngine::pace(Trace::Time begin, Bytes size) const {
  std::chrono::nanoseconds time = options_.link_latency;
  if (options_.link_bytes_per_second > 0) {
    time += std::chrono::nanoseconds(static_cast<std::int64_t>(
        1e9 * static_cast<double>(size.count) / options_.link_bytes_per_second));
  }
  if (time.count() > 0) std::this_thread::sleep_until(begin + time);
}

std::optional<EndedCopy> HostCopyEngine::take_ended() {
  require_here();
  return endings_->ledger().take_ended();
}

void HostCopyEngine::wait(StreamRef stream, CopyId copy) {
  require_here();
  if (stream.handle == nullptr) {
    endings_->wait_for(copy);
  } else {
    static_cast<HostStream*>(stream.handle)->launch([endings = endings_, copy] {
      endings->wait_for(copy);
    });
  }
}

LinkStatistics HostCopyEngine::statistics() const {
  require_here();
  return endings_->ledger().statistics();
}

}  // namespace tensor_pager
