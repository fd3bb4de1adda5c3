// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "devices/cuda/context.hpp"
#include "devices/cuda/first_failure.hpp"
#include "devices/progress.hpp"

namespace tensor_pager::cuda {

/// The thread that asks the GPU what has ended, while something is under way, and says so. Asking,
/// and not a callback in a stream, keeps the copy engine free of gaps.
class Poller {
 public:
  struct Seen {
    bool pending = false;   ///< something is still under way
    bool progress = false;  ///< something has ended
  };

  Poller(const Context& context, Progress& progress, FirstFailure& failure)
      : context_(context), progress_(progress), failure_(failure) {}
  ~Poller() { stop(); }
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  /// From now on `observe` is called, with the context current, until nothing is pending. What it
  /// throws is the device's failure, and the last that is asked.
  void start(std::function<Seen()> observe);
  /// Something is under way. Thread-safe.
  void wake();
  /// Returns when `observe` will not be called again.
  void stop() noexcept;

 private:
  void run();
  void poll();

  const Context& context_;
  Progress& progress_;
  FirstFailure& failure_;
  std::function<Seen()> observe_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace tensor_pager::cuda
