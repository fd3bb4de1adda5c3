// SPDX-License-Identifier: Apache-2.0
#include "driver/remapping.hpp"

#include <algorithm>
#include <variant>
#include <vector>

namespace tensor_pager {

namespace {

/// How many of `commands`, from the first on, are Kind and of neighbouring pages.
template <class Kind>
std::size_t run_of(std::span<const Remap> commands) {
  std::size_t count = 0;
  const auto* const first = std::get_if<Kind>(&commands.front());
  for (const Remap& command : commands) {
    const auto* const next = std::get_if<Kind>(&command);
    if (next == nullptr || next->page.value != first->page.value + count) break;
    ++count;
  }
  return count;
}

void map_run(AddressRange& range, std::span<const Remap> commands) {
  std::vector<FrameIndex> frames;
  for (const Remap& command : commands) frames.push_back(std::get<MapPage>(command).frame);
  range.map(std::get<MapPage>(commands.front()).page, frames);
}

}  // namespace

void remap(AddressRange& range, std::span<const Remap> commands) {
  while (!commands.empty()) {
    const std::size_t mapped = run_of<MapPage>(commands);
    const std::size_t unmapped = run_of<UnmapPage>(commands);
    if (mapped > 0) {
      map_run(range, commands.first(mapped));
    } else if (unmapped > 0) {
      range.unmap(std::get<UnmapPage>(commands.front()).page, static_cast<std::uint32_t>(unmapped));
    } else {
      range.destroy_frame(std::get<DestroyFrame>(commands.front()).frame);
    }
    commands = commands.subspan(std::max<std::size_t>(mapped + unmapped, 1));
  }
}

}  // namespace tensor_pager
