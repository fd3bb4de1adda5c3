// SPDX-License-Identifier: Apache-2.0
#include "pager/published.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <span>
#include <thread>
#include <utility>

#include "pager/errors.hpp"
#include "system_call.hpp"
#include "views/publication_layout.hpp"

namespace tensor_pager {

namespace {

using publication::Header;
using publication::Name;
using publication::Places;
using publication::TextRange;

/// Closes a file descriptor.
class File {
 public:
  explicit File(int file) : file_(file) {}
  ~File() {
    if (file_ >= 0) ::close(file_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return file_; }

 private:
  int file_;
};

std::string process_text(pid_t process) {
  return "process " + std::to_string(process);
}

std::string short_text(const std::array<std::atomic<std::uint64_t>, 2>& words) {
  publication::ShortText copy{};
  for (std::size_t i = 0; i < copy.size(); ++i) copy[i] = words[i].load(std::memory_order_acquire);
  std::array<char, sizeof copy> text{};
  std::memcpy(text.data(), copy.data(), sizeof copy - 1);
  return text.data();
}

/// The numbers of the open files in /proc/PID/fd that are publications, in ascending order: that is
/// mostly the order in which they were made.
std::vector<int> publications_of(pid_t process) {
  const std::string folder = "/proc/" + std::to_string(process) + "/fd";
  const auto close_folder = [](DIR* open) { ::closedir(open); };
  const std::unique_ptr<DIR, decltype(close_folder)> files(::opendir(folder.c_str()), close_folder);
  if (!files) {
    if (errno == EACCES || errno == EPERM) {
      throw Error(process_text(process) +
                  " belongs to another user, who alone (and root) may look into it");
    }
    if (errno == ENOENT)
      throw Error("there is no " + process_text(process) + "; pgrep tells its number");
    throw Error(failed_call("looking into " + process_text(process)));
  }
  const std::string wanted = std::string("/memfd:") + publication::kName;
  std::vector<int> found;
  while (const dirent* const entry = ::readdir(files.get())) {
    char target[PATH_MAX];
    const ssize_t length = ::readlinkat(::dirfd(files.get()), entry->d_name, target, sizeof target);
    if (length > 0 &&
        std::string_view(target, static_cast<std::size_t>(length)).starts_with(wanted)) {
      found.push_back(std::atoi(entry->d_name));
    }
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace

class PublishedPager::Segment {
 public:
  /// Throws Error if what was mapped is not a publication that this version knows.
  Segment(pid_t process, int number);
  ~Segment() { ::munmap(memory_, size_); }
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  const Header& header() const { return *reinterpret_cast<const Header*>(memory_); }
  std::span<const std::atomic<std::uint32_t>> loads() const {
    return {reinterpret_cast<const std::atomic<std::uint32_t>*>(memory_ + places().loads),
            layout.page_count()};
  }
  std::span<const std::atomic<PageState>> states() const {
    return {reinterpret_cast<const std::atomic<PageState>*>(memory_ + places().states),
            layout.page_count()};
  }

  const pid_t process;
  PageLayout layout;
  std::string title, device_kind, device_name;
  std::vector<NamedRange> names;

 private:
  Places places() const { return {header().names, layout.page_count(), header().text_bytes}; }
  void require_known() const;
  std::string text(const TextRange& range) const;

  std::byte* memory_ = nullptr;
  std::size_t size_ = 0;
};

PublishedPager::Segment::Segment(pid_t owner, int number) : process(owner) {
  const std::string path = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(number);
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    throw Error(failed_call("opening the statistics of " + process_text(process)));
  }
  size_ = static_cast<std::size_t>(status.st_size);
  void* const memory = size_ < sizeof(Header)
                           ? MAP_FAILED
                           : ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) {
    throw Error("the statistics of " + process_text(process) +
                " cannot be read: it is only just beginning, or not ours; try again");
  }
  memory_ = static_cast<std::byte*>(memory);
  try {
    require_known();
    layout = {{header().image_bytes}, {header().page_bytes}};
    title = text(header().title);
    device_kind = text(header().device_kind);
    device_name = text(header().device_name);
    const std::byte* at = memory_ + places().names;
    for (std::uint32_t i = 0; i < header().names; ++i, at += sizeof(Name)) {
      Name name;
      std::memcpy(&name, at, sizeof name);
      names.push_back({text(name.text), {{name.offset}, {name.size}}});
    }
  } catch (...) {
    ::munmap(memory_, size_);
    throw;
  }
}

void PublishedPager::Segment::require_known() const {
  const Header& h = header();
  // The magic is written last.
  const auto* const magic = reinterpret_cast<const std::atomic<std::uint64_t>*>(&h.magic);
  if (magic->load(std::memory_order_acquire) != publication::kMagic) {
    throw Error("the statistics of " + process_text(process) +
                " are not complete yet, or not ours; try again");
  }
  if (h.version != publication::kVersion) {
    throw Error(process_text(process) + " publishes version " + std::to_string(h.version) +
                " of its statistics, this program reads version " +
                std::to_string(publication::kVersion) + "; use the pager_stats of its own build");
  }
  const bool paged = h.page_bytes > 0 && h.image_bytes / h.page_bytes < 0xffffffff;
  const PageLayout pages{{h.image_bytes}, {h.page_bytes}};
  if (!paged || h.text_bytes > size_ || h.names > size_ / sizeof(Name) ||
      Places(h.names, pages.page_count(), h.text_bytes).size != size_) {
    throw Error("the statistics of " + process_text(process) + " are damaged: " +
                std::to_string(size_) + " bytes do not fit what their header says");
  }
}

std::string PublishedPager::Segment::text(const TextRange& range) const {
  const std::uint64_t end = std::uint64_t{range.offset} + range.size;
  if (end > header().text_bytes) {
    throw Error("the statistics of " + process_text(process) + " are damaged: a text ends at " +
                std::to_string(end) + " of " + std::to_string(header().text_bytes) + " bytes");
  }
  return {reinterpret_cast<const char*>(memory_ + places().text + range.offset), range.size};
}

std::vector<PublishedPager> PublishedPager::of_process(pid_t process) {
  std::vector<PublishedPager> pagers;
  for (const int number : publications_of(process)) {
    pagers.push_back(PublishedPager(std::make_unique<Segment>(process, number)));
  }
  if (pagers.empty()) {
    throw Error(process_text(process) +
                " publishes no statistics: it has no pager (yet), or publishing is switched off "
                "(PagerOptions::publish, qwen_prefill --no-publish)");
  }
  std::ranges::stable_sort(
      pagers, {}, [](const PublishedPager& pager) { return pager.segment_->header().made; });
  return pagers;
}

PublishedPager::PublishedPager(std::unique_ptr<Segment> segment) : segment_(std::move(segment)) {}
PublishedPager::PublishedPager(PublishedPager&&) noexcept = default;
PublishedPager& PublishedPager::operator=(PublishedPager&&) noexcept = default;
PublishedPager::~PublishedPager() = default;

const PageLayout& PublishedPager::layout() const {
  return segment_->layout;
}
const std::string& PublishedPager::title() const {
  return segment_->title;
}
const std::string& PublishedPager::device_kind() const {
  return segment_->device_kind;
}
const std::string& PublishedPager::device_name() const {
  return segment_->device_name;
}
const std::vector<NamedRange>& PublishedPager::names() const {
  return segment_->names;
}

PublishedState PublishedPager::read() const {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kPatience{200};
  const Header& header = segment_->header();
  const auto deadline = Clock::now() + kPatience;
  while (true) {
    const std::uint64_t before = header.sequence.load(std::memory_order_acquire);
    PublishedState state;
    std::size_t i = 0;
    publication::for_each_number(state, [&](auto& number) {
      using Number = std::remove_reference_t<decltype(number)>;
      const std::uint64_t word = header.numbers[i++].load(std::memory_order_acquire);
      if constexpr (requires { number.count(); }) {
        number = Number(static_cast<typename Number::rep>(word));
      } else {
        number = static_cast<Number>(word);
      }
    });
    state.plan = short_text(header.texts[0]);
    state.unit = short_text(header.texts[1]);
    if (before % 2 == 0 && header.sequence.load(std::memory_order_relaxed) == before) {
      state.age = Clock::now().time_since_epoch() - std::chrono::nanoseconds(header.made);
      return state;
    }
    if (Clock::now() > deadline) {
      throw Error(process_text(segment_->process) +
                  " ended, or was stopped, while it was writing its statistics; they are lost");
    }
    std::this_thread::yield();
  }
}

std::vector<PageState> PublishedPager::page_states() const {
  std::vector<PageState> states;
  for (const auto& state : segment_->states()) {
    states.push_back(std::min(state.load(std::memory_order_relaxed), PageState::resident));
  }
  return states;
}

std::vector<std::uint32_t> PublishedPager::page_loads() const {
  std::vector<std::uint32_t> loads;
  for (const auto& count : segment_->loads())
    loads.push_back(count.load(std::memory_order_relaxed));
  return loads;
}

}  // namespace tensor_pager
