// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>

#include "command_line/progress_bar.hpp"
#include "watched_store.hpp"

namespace tensor_pager::qwen_prefill {

/// What a terminal shows of prefills: how much of the model is loaded until all of it is, since the
/// first pass waits for it; then how much of the passes is done.
class PrefillProgress {
 public:
  /// `tokens` in all. The store outlives it.
  PrefillProgress(bool enabled, const WatchedStore& store, std::size_t tokens);
  ~PrefillProgress() { store_.watch({}); }
  PrefillProgress(const PrefillProgress&) = delete;
  PrefillProgress& operator=(const PrefillProgress&) = delete;

  void update(std::size_t done, std::size_t total) {
    if (loaded_) passes_.update(done, total);
  }
  /// Makes room for other output.
  void clear() { passes_.clear(); }

 private:
  const WatchedStore& store_;
  command_line::ProgressBar loading_;
  command_line::ProgressBar passes_;
  std::atomic<bool> loaded_ = false;
};

}  // namespace tensor_pager::qwen_prefill
