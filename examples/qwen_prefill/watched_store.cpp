// SPDX-License-Identifier: Apache-2.0
#include "watched_store.hpp"

#include <utility>

namespace tensor_pager::qwen_prefill {

WatchedStore::WatchedStore(std::shared_ptr<const BackingStore> store)
    : store_(std::move(store)),
      subscription_(store_->announce([this](ByteRange range) { note_ready(range.size); })) {}

Subscription WatchedStore::announce(std::function<void(ByteRange)> ready) const {
  return store_->announce(std::move(ready));
}

void WatchedStore::watch(Watcher watcher) const {
  const std::lock_guard lock(mutex_);
  watcher_ = std::move(watcher);
  if (watcher_) watcher_(ready_, size());
}

void WatchedStore::note_ready(Bytes more) {
  const std::lock_guard lock(mutex_);
  ready_ += more;
  if (watcher_) watcher_(ready_, size());
}

}  // namespace tensor_pager::qwen_prefill
