// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include "devices/cuda/context.hpp"

namespace tensor_pager::cuda {

class EventPool;

/// An event that goes back to its pool. Move-only; the pool outlives it.
class Event {
 public:
  Event() = default;
  Event(Event&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        handle_(std::exchange(other.handle_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Event();

  explicit operator bool() const { return handle_ != nullptr; }
  CUevent handle() const { return handle_; }

 private:
  friend class EventPool;
  Event(EventPool& pool, CUevent handle) : pool_(&pool), handle_(handle) {}

  EventPool* pool_ = nullptr;
  CUevent handle_ = nullptr;
};

/// Events to use again and again: creating one costs more than recording it. Thread-safe.
class EventPool {
 public:
  EventPool(const Context& context, unsigned flags) : context_(context), flags_(flags) {}
  ~EventPool() {
    const CurrentContext current(context_, std::nothrow);
    if (!current) return;
    for (CUevent event : idle_) driver().cuEventDestroy(event);
  }
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;

  /// The context is current.
  Event take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) {
      idle_.reserve(made_ + 1);  // so that giving back cannot fail
      CUevent event = nullptr;
      check(driver().cuEventCreate(&event, flags_), "cuEventCreate");
      ++made_;
      return {*this, event};
    }
    CUevent event = idle_.back();
    idle_.pop_back();
    return {*this, event};
  }

 private:
  friend class Event;
  void give_back(CUevent event) noexcept {
    const std::lock_guard lock(mutex_);
    idle_.push_back(event);
  }

  const Context& context_;
  const unsigned flags_;
  std::mutex mutex_;
  std::vector<CUevent> idle_;
  std::size_t made_ = 0;
};

inline Event::~Event() {
  if (pool_ != nullptr) pool_->give_back(handle_);
}

/// Whether the work before the event is done. Throws if the GPU can no longer tell.
inline bool has_passed(const Event& event, const char* what) {
  return !not_ready(driver().cuEventQuery(event.handle()), what);
}

}  // namespace tensor_pager::cuda
