// SPDX-License-Identifier: Apache-2.0
#include "views/publication.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <vector>

#include "pager/errors.hpp"
#include "system_call.hpp"

namespace tensor_pager {

namespace {

using publication::Header;
using publication::Name;
using publication::Places;
using publication::TextRange;

/// Texts one after another.
class Text {
 public:
  TextRange add(const std::string& text) {
    const TextRange range{static_cast<std::uint32_t>(all_.size()),
                          static_cast<std::uint32_t>(text.size())};
    all_ += text;
    return range;
  }
  const std::string& all() const { return all_; }

 private:
  std::string all_;
};

publication::ShortText short_text(const std::string& text) {
  publication::ShortText words{};
  std::memcpy(words.data(), text.data(), std::min(text.size(), sizeof words - 1));
  return words;
}

[[noreturn]] void fail(const std::string& call) {
  throw Error(failed_call(call) + "; PagerOptions::publish = false does without");
}

}  // namespace

Publication::Publication(const PageLayout& layout, const std::string& title,
                         const std::string& device_kind, const std::string& device_name,
                         std::span<const NamedRange> names) {
  Text text;
  Header header;
  header.title = text.add(title);
  header.device_kind = text.add(device_kind);
  header.device_name = text.add(device_name);
  std::vector<Name> table;
  for (const NamedRange& range : names) {
    table.push_back({range.bytes.offset.count, range.bytes.size.count, text.add(range.name)});
  }
  const Places places(table.size(), layout.page_count(), text.all().size());
  size_ = places.size;

  file_ = ::memfd_create(publication::kName, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (file_ < 0) fail("memfd_create of published statistics");
  void* memory = MAP_FAILED;
  // Sealed, so that no reader is ever left with pages that are gone.
  if (::ftruncate(file_, static_cast<off_t>(size_)) == 0 &&
      ::fcntl(file_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
    memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  }
  if (memory == MAP_FAILED) {
    const int error = errno;
    ::close(file_);
    errno = error;
    fail("mapping " + std::to_string(size_) + " bytes of published statistics");
  }
  memory_ = static_cast<std::byte*>(memory);

  header_ = new (memory_) Header;
  header_->version = publication::kVersion;
  header_->names = static_cast<std::uint32_t>(table.size());
  header_->image_bytes = layout.image.count;
  header_->page_bytes = layout.page.count;
  header_->text_bytes = text.all().size();
  header_->made =
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  header_->title = header.title;
  header_->device_kind = header.device_kind;
  header_->device_name = header.device_name;
  if (!table.empty())
    std::memcpy(memory_ + places.names, table.data(), table.size() * sizeof(Name));
  loads_ = new (memory_ + places.loads) std::atomic<std::uint32_t>[layout.page_count()]();
  states_ = new (memory_ + places.states) std::atomic<PageState>[layout.page_count()]();
  std::memcpy(memory_ + places.text, text.all().data(), text.all().size());
  // Last: what has no magic is not complete.
  std::atomic_ref(header_->magic).store(publication::kMagic, std::memory_order_release);
}

Publication::~Publication() {
  ::munmap(memory_, size_);
  ::close(file_);
}

void Publication::loading(PageIndex page) {
  loads_[page.value].fetch_add(1, std::memory_order_relaxed);
  set(page, PageState::loading);
}

void Publication::set(PageIndex page, PageState state) {
  states_[page.value].store(state, std::memory_order_relaxed);
}

void Publication::name_plan(const std::string& plan, const std::string& unit) {
  texts_ = {short_text(plan), short_text(unit)};
}

void Publication::publish(const PublishedState& state) {
  const std::uint64_t sequence = header_->sequence.load(std::memory_order_relaxed);
  header_->sequence.store(sequence + 1, std::memory_order_relaxed);
  std::size_t i = 0;
  publication::for_each_number(state, [&](const auto& number) {
    std::uint64_t word = 0;
    if constexpr (requires { number.count(); }) {
      word = static_cast<std::uint64_t>(number.count());
    } else {
      word = number;
    }
    header_->numbers[i++].store(word, std::memory_order_release);
  });
  for (std::size_t text = 0; text < texts_.size(); ++text) {
    for (std::size_t word = 0; word < texts_[text].size(); ++word) {
      header_->texts[text][word].store(texts_[text][word], std::memory_order_release);
    }
  }
  header_->sequence.store(sequence + 2, std::memory_order_release);
}

}  // namespace tensor_pager
