// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "pager/published.hpp"

namespace tensor_pager::publication {

/// The name of the memfd: "/memfd:tensor-pager-statistics (deleted)" in /proc/PID/fd.
inline constexpr const char* kName = "tensor-pager-statistics";
inline constexpr std::uint64_t kMagic = 0x2152454741505054;  // "TPPAGER!", little-endian
/// Of everything below, and of what PublishedState has. Readers know one version only.
inline constexpr std::uint32_t kVersion = 2;

/// Calls visit(number) for every number of a state, in the order in which they are published.
template <class State, class Visit>
constexpr void for_each_number(State& state, const Visit& visit) {
  auto& s = state.statistics;
  visit(s.page.count), visit(s.arena.count), visit(s.frames), visit(s.peak_frames);
  visit(s.pages), visit(s.resident_pages);
  visit(s.core.accesses), visit(s.core.hits), visit(s.core.prefetched), visit(s.core.late);
  visit(s.core.loads), visit(s.core.failed_loads), visit(s.core.evictions), visit(s.core.remaps);
  visit(s.core.rescues), visit(s.core.rollbacks), visit(s.core.optimal_loads);
  visit(s.core.loaded.count), visit(s.core.optimal.count);
  visit(s.link.copied.count), visit(s.link.copies), visit(s.link.busy);
  visit(s.memory.current.count), visit(s.memory.peak.count), visit(s.stalled);
  visit(state.step), visit(state.steps), visit(state.work), visit(state.plans), visit(state.passes);
}

/// A short text that changes, as numbers: cut after its bytes, the rest zeros.
using ShortText = std::array<std::uint64_t, 2>;

constexpr std::size_t count_numbers() {
  struct {  // PublishedState without its texts, which are no constants to clang 14
    Statistics statistics;
    std::uint32_t step = 0, steps = 0;
    std::uint64_t work = 0, plans = 0, passes = 0;
  } state{};
  std::size_t count = 0;
  for_each_number(state, [&](const auto&) { ++count; });
  return count;
}
inline constexpr std::size_t kNumbers = count_numbers();

struct TextRange {
  std::uint32_t offset = 0;  ///< in the segment's text
  std::uint32_t size = 0;
};

/// The segment: header, names, loads by page, states by page, text. Native endianness; the atomics
/// are lock-free, and so of the same form in every process.
struct Header {
  std::uint64_t magic = 0;
  std::uint32_t version = 0;
  std::uint32_t names = 0;  ///< how many
  std::uint64_t image_bytes = 0;
  std::uint64_t page_bytes = 0;
  std::uint64_t text_bytes = 0;
  std::int64_t made = 0;  ///< steady clock, nanoseconds; the clock is the machine's
  TextRange title, device_kind, device_name;
  /// Odd while `numbers` are being written. Each number is stored with release and loaded with
  /// acquire: who sees a new number sees the odd sequence, too.
  std::atomic<std::uint64_t> sequence{0};
  std::array<std::atomic<std::uint64_t>, kNumbers> numbers{};
  /// PublishedState::plan and ::unit, guarded as the numbers are.
  std::array<std::array<std::atomic<std::uint64_t>, 2>, 2> texts{};
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

struct Name {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  TextRange text;
};

/// Where the parts of a segment begin.
struct Places {
  std::uint64_t names = 0;
  std::uint64_t loads = 0;
  std::uint64_t states = 0;
  std::uint64_t text = 0;
  std::uint64_t size = 0;  ///< of all

  constexpr Places(std::uint64_t name_count, std::uint64_t page_count, std::uint64_t text_bytes)
      : names(sizeof(Header)),
        loads(names + name_count * sizeof(Name)),
        states(loads + page_count * sizeof(std::atomic<std::uint32_t>)),
        text(states + page_count * sizeof(std::atomic<PageState>)),
        size(text + text_bytes) {}
};

}  // namespace tensor_pager::publication
