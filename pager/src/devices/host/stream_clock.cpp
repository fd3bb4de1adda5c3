// SPDX-License-Identifier: Apache-2.0
#include "devices/host/stream_clock.hpp"

#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "pager/host_device.hpp"

namespace tensor_pager {

class HostStreamClock::Passed {
 public:
  explicit Passed(std::shared_ptr<Progress> progress) : progress_(std::move(progress)) {}

  FenceId next_fence() {
    const std::lock_guard lock(mutex_);
    return FenceId{++last_fence_};
  }
  StampId next_stamp() {
    const std::lock_guard lock(mutex_);
    return StampId{++last_stamp_};
  }
  void pass(FenceId fence) {
    const std::lock_guard lock(mutex_);
    fences_.push_back(fence);
  }
  void pass(StampId stamp) {
    const std::lock_guard lock(mutex_);
    stamps_[stamp] = Trace::Clock::now();
  }
  void announce() { progress_->announce(); }

  std::vector<FenceId> take_fences() {
    const std::lock_guard lock(mutex_);
    return std::exchange(fences_, {});
  }
  std::optional<Trace::Time> take(StampId stamp) {
    const std::lock_guard lock(mutex_);
    const auto found = stamps_.extract(stamp);
    if (found.empty()) return std::nullopt;
    return found.mapped();
  }

 private:
  const std::shared_ptr<Progress> progress_;
  std::mutex mutex_;
  std::uint64_t last_fence_ = 0;
  std::uint64_t last_stamp_ = 0;
  std::vector<FenceId> fences_;
  std::map<StampId, Trace::Time> stamps_;
};

HostStreamClock::HostStreamClock(std::shared_ptr<Progress> progress)
    : passed_(std::make_shared<Passed>(std::move(progress))) {}

StreamId HostStreamClock::identify(StreamRef stream) const {
  require_here();
  if (stream.handle == nullptr)
    return StreamId{std::hash<std::thread::id>{}(std::this_thread::get_id())};
  return StreamId{reinterpret_cast<std::uintptr_t>(stream.handle)};
}

std::optional<FenceId> HostStreamClock::record(StreamRef stream) {
  require_here();
  if (stream.handle == nullptr) return std::nullopt;
  const FenceId fence = passed_->next_fence();
  static_cast<HostStream*>(stream.handle)->launch([passed = passed_, fence] {
    passed->pass(fence);
    passed->announce();
  });
  return fence;
}

std::vector<FenceId> HostStreamClock::take_passed() {
  require_here();
  return passed_->take_fences();
}

StampId HostStreamClock::stamp(StreamRef stream) {
  require_here();
  const StampId stamp = passed_->next_stamp();
  if (stream.handle == nullptr) {
    passed_->pass(stamp);  // unannounced: the listener may want a lock that this thread holds
    return stamp;
  }
  static_cast<HostStream*>(stream.handle)->launch([passed = passed_, stamp] {
    passed->pass(stamp);
    passed->announce();
  });
  return stamp;
}

std::optional<Trace::Time> HostStreamClock::take_stamp(StampId stamp) {
  require_here();
  return passed_->take(stamp);
}

}  // namespace tensor_pager
