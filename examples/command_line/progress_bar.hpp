#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace tensor_pager::command_line {

/// A line on stderr that shows how far something has come, how fast, and how long it will take.
/// It shows nothing if stderr is not a terminal, and leaves nothing behind.
class ProgressBar {
 public:
  /// `amount` `unit`s in all (tokens, say); the rate is shown in them.
  ProgressBar(bool enabled, std::string title, double amount, std::string unit);
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(std::size_t done, std::size_t total);
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  bool enabled_;
  bool shown_ = false;
  std::string title_;
  double amount_;
  std::string unit_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_{};
};

}  // namespace tensor_pager::command_line
