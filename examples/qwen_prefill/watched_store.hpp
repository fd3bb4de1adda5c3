// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>

#include "pager/backing_store.hpp"

namespace tensor_pager::qwen_prefill {

/// A store, and how much of it can be read without waiting: on a GPU the files are still being
/// pinned while the first pages are used.
class WatchedStore final : public BackingStore {
 public:
  /// Called one at a time, from any thread.
  using Watcher = std::function<void(Bytes ready, Bytes total)>;

  explicit WatchedStore(std::shared_ptr<const BackingStore> store);

  Bytes size() const override { return store_->size(); }
  void read(Bytes offset, std::span<std::byte> out) const override { store_->read(offset, out); }
  const std::byte* data() const override { return store_->data(); }
  const std::byte* address(ByteRange range) const override { return store_->address(range); }
  Bytes pinned(Bytes offset, Bytes size) const override { return store_->pinned(offset, size); }
  [[nodiscard]] Subscription announce(std::function<void(ByteRange)> ready) const override;

  /// From now on `watcher` is told of what becomes ready, and at once of what is. An empty one ends
  /// it: when that call has returned, the former one will not be called again.
  void watch(Watcher watcher) const;

 private:
  void note_ready(Bytes more);

  std::shared_ptr<const BackingStore> store_;
  mutable std::mutex mutex_;  // held while watcher_ runs
  mutable Watcher watcher_;
  Bytes ready_;
  Subscription subscription_;  // last: what it calls uses all of the above
};

}  // namespace tensor_pager::qwen_prefill
