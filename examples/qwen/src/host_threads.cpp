// SPDX-License-Identifier: Apache-2.0
#include "qwen/host_threads.hpp"

#include <sched.h>
#include <tbb/info.h>
#include <tbb/task_arena.h>
#include <tbb/task_scheduler_observer.h>

#include <algorithm>
#include <optional>

namespace tensor_pager::qwen {
namespace {

cpu_set_t set_of(const std::vector<std::uint32_t>& processors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const std::uint32_t number : processors) {
    if (number < CPU_SETSIZE) CPU_SET(number, &set);
  }
  return set;
}

// Those that the calling thread may run on; nothing on a machine with more than a set has.
std::optional<cpu_set_t> present_set() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return std::nullopt;
  return set;
}

/// Has threads of an arena run on some processors for as long as they are in it. A hint: where the
/// system refuses, they run anywhere.
class Pinning final : public tbb::task_scheduler_observer {
 public:
  Pinning(tbb::task_arena& arena, const cpu_set_t& inside, const cpu_set_t& outside)
      : tbb::task_scheduler_observer(arena), inside_(inside), outside_(outside) {
    observe(true);
  }
  ~Pinning() override { observe(false); }
  Pinning(const Pinning&) = delete;
  Pinning& operator=(const Pinning&) = delete;

  void on_scheduler_entry(bool /*worker*/) override {
    ::sched_setaffinity(0, sizeof inside_, &inside_);
  }
  void on_scheduler_exit(bool /*worker*/) override {
    ::sched_setaffinity(0, sizeof outside_, &outside_);
  }

 private:
  cpu_set_t inside_;
  cpu_set_t outside_;
};

// More threads than there are processors would only wait for one another.
int threads_of(unsigned wanted) {
  const int all = tbb::info::default_concurrency();
  return wanted == 0 ? all : std::min(static_cast<int>(wanted), all);
}

}  // namespace

class HostThreads::Arena {
 public:
  explicit Arena(const HostThreadsOptions& options) : arena_(threads_of(options.threads)) {
    if (options.processors.empty()) return;
    const std::optional<cpu_set_t> outside = present_set();
    const cpu_set_t inside = set_of(options.processors);
    if (!outside || CPU_EQUAL(&inside, &*outside)) return;
    arena_.initialize();
    pinning_.emplace(arena_, inside, *outside);
  }

  tbb::task_arena& arena() { return arena_; }

 private:
  tbb::task_arena arena_;
  std::optional<Pinning> pinning_;
};

HostThreads::HostThreads(const HostThreadsOptions& options)
    : arena_(std::make_shared<Arena>(options)) {}

unsigned HostThreads::count() const {
  return static_cast<unsigned>(arena_->arena().max_concurrency());
}

void HostThreads::run(const std::function<void()>& work) {
  arena_->arena().execute(work);
}

}  // namespace tensor_pager::qwen
