// SPDX-License-Identifier: Apache-2.0
#include "prefill_progress.hpp"

namespace tensor_pager::qwen_prefill {

PrefillProgress::PrefillProgress(bool enabled, const WatchedStore& store, std::size_t tokens)
    : store_(store),
      loading_(enabled, "load", static_cast<double>(store.size().count) / 1e9, "GB"),
      passes_(enabled, "prefill", static_cast<double>(tokens), "token") {
  store_.watch([this](Bytes ready, Bytes total) {
    if (loaded_) return;
    loading_.update(ready.count, total.count);
    if (ready < total) return;
    loading_.clear();
    loaded_ = true;  // from here on the line belongs to the passes
  });
}

}  // namespace tensor_pager::qwen_prefill
