// SPDX-License-Identifier: Apache-2.0
#include "devices/cuda/poller.hpp"

#include <chrono>
#include <exception>
#include <utility>

namespace tensor_pager::cuda {

namespace {

/// How often the GPU is asked. A copy of 16 MiB takes 300 us.
constexpr std::chrono::microseconds kPollInterval{20};

}  // namespace

void Poller::start(std::function<Seen()> observe) {
  observe_ = std::move(observe);
  thread_ = std::thread([this] { run(); });
}

void Poller::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_one();
}

void Poller::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

/// A GPU that failed once is not asked again: CUDA reports no recovery from that.
void Poller::run() {
  try {
    poll();
  } catch (...) {
    failure_.keep(std::current_exception());
    progress_.announce();
  }
}

void Poller::poll() {
  const CurrentContext current(context_);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || woken_; });
    if (stop_) return;
    woken_ = false;
    lock.unlock();
    const Seen seen = observe_();
    if (seen.progress) {
      progress_.announce();
    } else if (seen.pending) {
      std::this_thread::sleep_for(kPollInterval);
    }
    lock.lock();
    woken_ = woken_ || seen.pending;
  }
}

}  // namespace tensor_pager::cuda
