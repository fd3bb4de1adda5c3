#include "watched_store.hpp"

#include <utility>

namespace tensor_pager::qwen_prefill {

void WatchedStore::announce(std::function<void(ByteRange)> ready) const {
  if (!ready) {
    store_->announce({});
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    ready_ = {};  // all of it is announced to whoever asks
  }
  store_->announce([this, ready = std::move(ready)](ByteRange range) {
    ready(range);
    const std::lock_guard lock(mutex_);
    ready_ += range.size;
    if (watcher_) watcher_(ready_, size());
  });
}

void WatchedStore::watch(Watcher watcher) const {
  const std::lock_guard lock(mutex_);
  watcher_ = std::move(watcher);
  if (watcher_) watcher_(ready_, size());
}

}  // namespace tensor_pager::qwen_prefill
