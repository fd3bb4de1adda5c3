// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <span>
#include <string>

#include "pager/published.hpp"
#include "views/publication_layout.hpp"

namespace tensor_pager {

/// What a pager lets other processes see (PublishedPager): memory that it writes, without locks and
/// system calls. The functions that write are called by one thread at a time.
class Publication {
 public:
  /// Throws Error if the memory cannot be had.
  Publication(const PageLayout& layout, const std::string& title, const std::string& device_kind,
              const std::string& device_name, std::span<const NamedRange> names);
  ~Publication();
  Publication(const Publication&) = delete;
  Publication& operator=(const Publication&) = delete;

  /// The page is being copied in, once more.
  void loading(PageIndex page);
  void set(PageIndex page, PageState state);
  /// What publish shows as PublishedState::plan and ::unit from now on.
  void name_plan(const std::string& plan, const std::string& unit);
  /// All but the two texts.
  void publish(const PublishedState& state);

 private:
  int file_ = -1;
  std::byte* memory_ = nullptr;
  std::size_t size_ = 0;
  publication::Header* header_ = nullptr;
  std::array<publication::ShortText, 2> texts_{};
  std::atomic<std::uint32_t>* loads_ = nullptr;
  std::atomic<PageState>* states_ = nullptr;
};

}  // namespace tensor_pager
