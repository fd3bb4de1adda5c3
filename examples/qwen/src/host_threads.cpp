// SPDX-License-Identifier: Apache-2.0
#include "qwen/host_threads.hpp"

#include <tbb/info.h>
#include <tbb/task_arena.h>

#include <algorithm>

namespace tensor_pager::qwen {

class HostThreads::Arena : public tbb::task_arena {
 public:
  using tbb::task_arena::task_arena;
};

HostThreads::HostThreads(unsigned threads) {
  // More than there are processors would only wait for one another.
  const int all = tbb::info::default_concurrency();
  arena_ = std::make_shared<Arena>(threads == 0 ? all : std::min(static_cast<int>(threads), all));
}

unsigned HostThreads::count() const {
  return static_cast<unsigned>(arena_->max_concurrency());
}

void HostThreads::run(const std::function<void()>& work) {
  arena_->execute(work);
}

}  // namespace tensor_pager::qwen
