// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <utility>

namespace tensor_pager {

/// Whom a device tells that something has ended. Thread-safe; the listener is called without any
/// lock of the device.
class Progress {
 public:
  /// When this returns, the former listener will not be called again.
  void listen(std::function<void()> notify) {
    const std::lock_guard lock(mutex_);
    notify_ = std::move(notify);
  }
  void announce() {
    const std::lock_guard lock(mutex_);
    if (notify_) notify_();
  }

 private:
  std::mutex mutex_;  // held while notify_ runs
  std::function<void()> notify_;
};

}  // namespace tensor_pager
