// SPDX-License-Identifier: Apache-2.0
#include "command_line/model_device.hpp"

#include <fmt/format.h>

#include "qwen/backend.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::command_line {

std::optional<int> gpu_of(const DeviceOptions& options) {
  const bool there = qwen::gpu_count() > 0;
  if (options.device == DeviceKind::cuda && !there) {
    throw qwen::Error("--device cuda: no GPU was found; use --device host");
  }
  return there && options.device != DeviceKind::host ? std::optional(options.gpu) : std::nullopt;
}

void require_trained(std::optional<std::uint32_t> context, const qwen::Model& model) {
  const std::uint32_t longest = model.config.context_length;
  if (context.value_or(0) <= longest) return;
  throw qwen::Error(
      fmt::format("--ctx {} is longer than the model's context of {} tokens; give at most that",
                  *context, longest));
}

}  // namespace tensor_pager::command_line
