// SPDX-License-Identifier: Apache-2.0
#include "command_line/progress_bar.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "command_line/note.hpp"

namespace tensor_pager::command_line {
namespace {

using Seconds = std::chrono::duration<double>;

// What is over before need not be shown, and rates of shorter times say nothing.
constexpr std::chrono::milliseconds kFirst{300};
constexpr std::chrono::milliseconds kInterval{100};

// One column less than there are: a cursor behind the last one begins a line on some terminals.
std::size_t usable_columns() {
  constexpr std::size_t kUnknown = 80;
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return (known ? size.ws_col : kUnknown) - 1;
}

std::string time_text(std::chrono::seconds time) {
  const auto seconds = std::max<std::int64_t>(time.count(), 0);
  if (seconds < 3600) return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
  return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

}  // namespace

std::string progress_line(const Progress& progress, std::size_t width) {
  constexpr std::size_t kLongestBar = 30;
  constexpr std::size_t kShortestBar = 5;
  const double share = std::clamp(progress.share, 0.0, 1.0);
  const std::string numbers =
      fmt::format("{:3.0f}%  {:.{}f} {}/s  {} left", 100 * share, progress.rate,
                  progress.rate < 1 ? 2 : 1, progress.unit, time_text(progress.left));
  const std::size_t taken = progress.title.size() + numbers.size() + 4;  // blanks, brackets
  std::string line = progress.title;
  if (width >= taken + kShortestBar) {
    const std::size_t bar = std::min(kLongestBar, width - taken);
    const auto filled = static_cast<std::size_t>(static_cast<double>(bar) * share);
    line += fmt::format(" [{}{}]", std::string(filled, '#'), std::string(bar - filled, '.'));
  }
  return (line + " " + numbers).substr(0, width);
}

ProgressBar::ProgressBar(bool enabled, std::string title, double amount, std::string unit)
    : enabled_(enabled && ::isatty(STDERR_FILENO) == 1),
      title_(std::move(title)),
      amount_(amount),
      unit_(std::move(unit)) {}

void ProgressBar::update(std::size_t done, std::size_t total) {
  if (!enabled_ || total == 0) return;
  const auto now = Clock::now();
  const double share = static_cast<double>(done) / static_cast<double>(total);
  if (!std::exchange(started_, true)) {
    start_ = now;
    start_share_ = share;
    next_ = now + kFirst;
  }
  const double progress = share - start_share_;
  if (now < next_ || progress <= 0) return;
  next_ = now + kInterval;
  const double elapsed = Seconds(now - start_).count();
  const double left = std::min(elapsed / progress * (1 - share), 1e8);
  const std::string line = progress_line({.title = title_,
                                          .share = share,
                                          .rate = amount_ * progress / elapsed,
                                          .unit = unit_,
                                          .left = std::chrono::seconds(std::llround(left))},
                                         usable_columns());
  shown_ = true;
  note(fmt::format("\r{}\x1b[K", line));
  std::fflush(stderr);
}

void ProgressBar::clear() {
  if (!std::exchange(shown_, false)) return;
  next_ = {};
  note("\r\x1b[K");
  std::fflush(stderr);
}

}  // namespace tensor_pager::command_line
