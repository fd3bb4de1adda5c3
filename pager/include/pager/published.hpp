// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pager/export.hpp"
#include "pager/statistics.hpp"
#include "pager/types.hpp"

namespace tensor_pager {

/// What a page's bytes are doing, as other processes see it.
enum class PageState : std::uint8_t { absent, loading, resident };

/// A moment of a running pager.
struct PublishedState {
  Statistics statistics;
  std::uint32_t step = 0;   ///< of the plan: acquired last
  std::uint32_t steps = 0;  ///< of the plan
  /// Of the plan: its name, what a pass works through, and how much of it (AccessPlan).
  std::string plan{};
  std::string unit{};
  std::uint64_t work = 0;
  std::uint64_t plans = 0;   ///< that were set so far
  std::uint64_t passes = 0;  ///< of the plan, that were begun
  /// Since the pager was made. Set by the reader.
  std::chrono::nanoseconds age{};
};

/// A pager of another process, as it shows itself in shared memory (PagerOptions::publish). Reading
/// takes nothing from the process that is read. Move-only.
///
/// The memory has no name in the file system: it is a memfd of the process that publishes, found
/// through /proc/PID/fd. So the system takes it back however that process ends, nobody can read it
/// who may not look into the process, and it can be read on after the process has ended.
class TENSOR_PAGER_EXPORT PublishedPager {
 public:
  /// The pagers of a process, in the order in which they were made; at least one. Throws Error,
  /// with the remedy, if there is no such process, it belongs to another user, or it publishes
  /// nothing or with another version of this library.
  static std::vector<PublishedPager> of_process(pid_t process);

  PublishedPager(PublishedPager&&) noexcept;
  PublishedPager& operator=(PublishedPager&&) noexcept;
  ~PublishedPager();

  const PageLayout& layout() const;
  const std::string& title() const;              ///< PagerOptions::title
  const std::string& device_kind() const;        ///< "host", "cuda"
  const std::string& device_name() const;        ///< the GPU's
  const std::vector<NamedRange>& names() const;  ///< PagerOptions::names

  /// A consistent copy of all counters. Throws Error if the process ended, or stands still, in the
  /// middle of writing them.
  PublishedState read() const;
  /// By page, each as it is at some moment of the call.
  std::vector<PageState> page_states() const;
  /// By page: how often it was copied in so far.
  std::vector<std::uint32_t> page_loads() const;

 private:
  class Segment;
  explicit PublishedPager(std::unique_ptr<Segment> segment);

  std::unique_ptr<Segment> segment_;
};

}  // namespace tensor_pager
