// SPDX-License-Identifier: Apache-2.0
#include "watch.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <span>
#include <string>

#include "command_line/interrupt.hpp"
#include "command_line/json.hpp"
#include "pager/errors.hpp"
#include "pager/system_error.hpp"
#include "prometheus.hpp"
#include "units.hpp"
#include "views.hpp"

namespace tensor_pager::pager_stats {
namespace {

/// A process that is not taken for another one that gets its number later.
class Process {
 public:
  explicit Process(pid_t number)
      : number_(number), file_(static_cast<int>(::syscall(SYS_pidfd_open, number, 0))) {
    if (file_ < 0 && errno == ESRCH) {
      throw Error(
          fmt::format("there is no process {}; pgrep qwen_prefill tells its number", number));
    }
    if (file_ < 0) {
      throw Error(fmt::format("opening process {} failed: {}", number, cause_of(errno)));
    }
    std::ifstream("/proc/" + std::to_string(number) + "/comm") >> name_;
  }
  ~Process() { ::close(file_); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t number() const { return number_; }
  const std::string& name() const { return name_; }

  /// Waits this long, less if the process ends or an interrupt comes. Whether the process ended.
  bool ended_within(std::chrono::nanoseconds time) const {
    pollfd ended{.fd = file_, .events = POLLIN, .revents = 0};
    const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
    const timespec limit{seconds.count(), (time - seconds).count()};
    return ::ppoll(&ended, 1, &limit, nullptr) == 1;
  }

 private:
  pid_t number_;
  int file_;
  std::string name_;
};

/// Text that replaces the text before it, on a terminal.
class Screen {
 public:
  Screen() : terminal_(::isatty(STDOUT_FILENO) == 1) {}
  ~Screen() {
    if (shown_ && terminal_) fmt::print("\x1b[?25h");
    std::fflush(stdout);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  bool terminal() const { return terminal_; }
  winsize size() const {
    winsize size{};
    if (!terminal_ || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
      return {.ws_row = 0, .ws_col = 120, .ws_xpixel = 0, .ws_ypixel = 0};
    }
    return size;
  }

  void show(const std::string& text) {
    if (!terminal_) {
      fmt::print("{}{}", shown_ ? "\n" : "", text);
    } else {
      std::string out = shown_ ? fmt::format("\x1b[{}A", lines_) : "\x1b[?25l";
      for (const char c : text) out += c == '\n' ? "\x1b[K\n" : std::string(1, c);
      fmt::print("{}\x1b[J", out);  // what is left of a longer text before
    }
    std::fflush(stdout);
    lines_ = std::ranges::count(text, '\n');
    shown_ = true;
  }

 private:
  const bool terminal_;
  bool shown_ = false;
  std::ptrdiff_t lines_ = 0;
};

std::vector<Sample> samples(std::span<const PublishedPager> pagers) {
  return {pagers.begin(), pagers.end()};
}

LiveView view_for(const Screen& screen, const WatchOptions& options, std::size_t pagers) {
  const winsize size = screen.size();
  LiveView view{.width = size.ws_col, .parts = options.parts};
  // In place only what the terminal shows can be replaced.
  constexpr std::size_t kOtherRows = 13;
  if (options.repeat && screen.terminal()) {
    const std::size_t rows = size.ws_row / std::max<std::size_t>(pagers, 1);
    view.most_parts = rows > kOtherRows ? rows - kOtherRows : 0;
  }
  return view;
}

std::string tables(const Process& process, std::span<const PublishedPager> pagers,
                   std::span<const Sample> before, std::span<const Sample> now,
                   const LiveView& view) {
  std::string out;
  for (std::size_t i = 0; i < pagers.size(); ++i) {
    out += fmt::format("process   {} ({})", process.number(), printable(process.name()));
    out += pagers.size() > 1 ? fmt::format(", pager {} of {}\n", i + 1, pagers.size()) : "\n";
    out += live_table(pagers[i], before[i], now[i], view);
  }
  return out;
}

std::string as_json(std::span<const PublishedPager> pagers, std::span<const Sample> now,
                    const WatchOptions& options) {
  auto all = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < pagers.size(); ++i) {
    nlohmann::ordered_json one = to_json(live_fields(pagers[i], now[i].state));
    if (options.parts) {
      std::vector<PartTraffic> parts = traffic_by_part(pagers[i], now[i]);
      sort_parts(parts, *options.parts);
      one["tensors"] = parts_json(parts);
    }
    all.push_back(std::move(one));
  }
  // A line each, when there are several to come.
  return command_line::to_text({{"pid", options.process}, {"pagers", std::move(all)}},
                               options.repeat ? -1 : 2) +
         "\n";
}

std::string as_prometheus(std::span<const PublishedPager> pagers, std::span<const Sample> now) {
  std::vector<std::vector<Field>> fields;
  for (std::size_t i = 0; i < pagers.size(); ++i) {
    fields.push_back(live_fields(pagers[i], now[i].state));
  }
  return prometheus(fields);
}

}  // namespace

void watch(const WatchOptions& options) {
  constexpr std::chrono::milliseconds kFirst{250};  // for rates of a single look
  const Process process(options.process);
  const std::vector<PublishedPager> pagers = PublishedPager::of_process(options.process);
  // An interrupt ends the watch in order, so that the terminal is left as it was.
  const command_line::InterruptGuard interrupts;
  Screen screen;
  std::vector<Sample> before = samples(pagers);
  std::chrono::nanoseconds pause = std::min<std::chrono::nanoseconds>(kFirst, options.interval);
  if (options.format != LiveFormat::table) pause = {};
  for (bool ended = false; !ended && command_line::InterruptGuard::pending() == 0;
       pause = options.interval) {
    ended = process.ended_within(pause);
    std::vector<Sample> now = samples(pagers);
    if (options.format == LiveFormat::json) {
      fmt::print("{}", as_json(pagers, now, options));
    } else if (options.format == LiveFormat::prometheus) {
      fmt::print("{}", as_prometheus(pagers, now));
    } else {
      screen.show(tables(process, pagers, before, now, view_for(screen, options, pagers.size())));
      if (ended) fmt::print("process {} has ended\n", process.number());
    }
    std::fflush(stdout);
    before = std::move(now);
    if (!options.repeat) return;
  }
}

}  // namespace tensor_pager::pager_stats
