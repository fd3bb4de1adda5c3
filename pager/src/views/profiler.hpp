// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tensor_pager {

/// A span of host time that NVIDIA's profilers show (NVTX, in a domain of its own, "tensor_pager").
/// It may end on another thread than it began on. Without a profiler, or without CUDA, it is
/// nothing.
class ProfilerSpan {
 public:
  /// Whether a profiler listens. Where none does, names need not be made.
  static bool wanted();

  ProfilerSpan() = default;
  explicit ProfilerSpan(const std::string& name);
  ProfilerSpan(ProfilerSpan&& other) noexcept;
  ProfilerSpan& operator=(ProfilerSpan&& other) noexcept;
  ~ProfilerSpan() { end(); }

 private:
  void end() noexcept;

  std::optional<std::uint64_t> id_;
};

}  // namespace tensor_pager
