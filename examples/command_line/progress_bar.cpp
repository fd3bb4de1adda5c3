#include "command_line/progress_bar.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace tensor_pager::command_line {

using Seconds = std::chrono::duration<double>;

ProgressBar::ProgressBar(bool enabled, std::string title, double amount, std::string unit)
    : enabled_(enabled && ::isatty(STDERR_FILENO) == 1),
      title_(std::move(title)),
      amount_(amount),
      unit_(std::move(unit)) {}

void ProgressBar::update(std::size_t done, std::size_t total) {
  constexpr std::chrono::milliseconds kInterval{100};
  constexpr std::size_t kWidth = 30;
  const auto now = Clock::now();
  if (!enabled_ || done == 0 || total == 0 || now - last_ < kInterval) return;
  last_ = now;
  shown_ = true;
  const double share = static_cast<double>(done) / static_cast<double>(total);
  const double elapsed = Seconds(now - start_).count();
  const auto left = static_cast<int>(elapsed / share - elapsed + 0.5);
  const std::size_t filled = kWidth * done / total;
  fmt::print(stderr, "\r{} [{}{}] {:3.0f}%  {:.1f} {}/s  {}:{:02} left \x1b[K", title_,
             std::string(filled, '#'), std::string(kWidth - filled, '.'), 100 * share,
             amount_ * share / elapsed, unit_, left / 60, left % 60);
  std::fflush(stderr);
}

void ProgressBar::clear() {
  if (std::exchange(shown_, false)) fmt::print(stderr, "\r\x1b[K");
}

}  // namespace tensor_pager::command_line
