// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace tensor_pager::qwen {

struct HostThreadsOptions {
  /// 0: as many as the process may run on, which is also the most.
  unsigned threads = 0;
  /// Numbers of the processors that they run on while they compute, each on any of them. Empty:
  /// wherever the system puts them.
  std::vector<std::uint32_t> processors{};
};

/// Threads of the host that compute together: the caller and others, which sleep between calls.
/// One caller at a time.
class HostThreads {
 public:
  explicit HostThreads(const HostThreadsOptions& options = {});

  unsigned count() const;
  /// Runs `work` on the calling thread; parallel work within it runs on all of these threads.
  /// Afterwards the calling thread may run where it could before. Throws what `work` throws, once
  /// no thread works on it any more.
  void run(const std::function<void()>& work);

 private:
  class Arena;
  std::shared_ptr<Arena> arena_;  // shared, since it can be destroyed where it is not complete
};

}  // namespace tensor_pager::qwen
