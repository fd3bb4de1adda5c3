// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace tensor_pager::command_line {

/// How far something has come.
struct Progress {
  std::string title;
  double share = 0;  ///< done, of 1
  double rate = 0;   ///< units per second
  std::string unit;
  std::chrono::seconds left{};
};

/// "prefill [######......]  50%  120.5 token/s  0:07 left", in at most `width` characters.
std::string progress_line(const Progress& progress, std::size_t width);

/// A line on stderr that shows how far something has come, how fast, and how long it will take.
/// It shows nothing if stderr is not a terminal, nor before there is something to tell a rate from,
/// and leaves nothing behind.
class ProgressBar {
 public:
  /// `amount` `unit`s in all (tokens, say); the rate is shown in them.
  ProgressBar(bool enabled, std::string title, double amount, std::string unit);
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `done` of `total` steps, of whatever kind. May be called as often as there are steps. Rate and
  /// time left are those since the first call.
  void update(std::size_t done, std::size_t total);
  /// Makes room for other output; the next update shows the line again.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  bool enabled_;
  bool shown_ = false;
  std::string title_;
  double amount_;
  std::string unit_;
  bool started_ = false;
  Clock::time_point start_{};
  double start_share_ = 0;
  Clock::time_point next_{};  ///< no line before
};

}  // namespace tensor_pager::command_line
