// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

namespace tensor_pager::qwen {

/// Threads of the host that compute together: the caller and others, which sleep between calls.
/// One caller at a time.
class HostThreads {
 public:
  /// 0: as many as the process may run on, which is also the most.
  explicit HostThreads(unsigned threads = 0);

  unsigned count() const;
  /// Runs `work` on the calling thread; parallel work within it runs on all of these threads.
  /// Throws what it throws, once no thread works on it any more.
  void run(const std::function<void()>& work);

 private:
  class Arena;
  std::shared_ptr<Arena> arena_;  // shared, since it can be destroyed where it is not complete
};

}  // namespace tensor_pager::qwen
