// SPDX-License-Identifier: Apache-2.0
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "birthplace.hpp"
#include "pager/host_device.hpp"

namespace tensor_pager {

class HostStream::Impl {
 public:
  Impl() : thread_([this] { run(); }) {}

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  /// Whether this is a child process: a copy of the queue, without its thread.
  bool elsewhere() const noexcept { return birthplace_.elsewhere(); }

  void launch(std::function<void()> work) {
    require_here();
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
    }
    changed_.notify_all();
  }

  void synchronize() {
    require_here();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queue_.empty() && !busy_; });
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const std::function<void()> work = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
      lock.unlock();
      work();
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  void require_here() const { birthplace_.require_here("this host stream"); }

  const Birthplace birthplace_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool busy_ = false;
  bool stop_ = false;
  std::thread thread_;
};

HostStream::HostStream() : impl_(std::make_unique<Impl>()) {}
HostStream::~HostStream() {
  if (impl_->elsewhere()) (void)impl_.release();
}
void HostStream::launch(std::function<void()> work) {
  impl_->launch(std::move(work));
}
void HostStream::synchronize() {
  impl_->synchronize();
}

}  // namespace tensor_pager
