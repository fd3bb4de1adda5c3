// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "command_line/device_options.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::command_line {

/// The GPU that a model runs on; nothing: the host. Throws qwen::Error if a GPU was asked for and
/// none is there.
std::optional<int> gpu_of(const DeviceOptions& options);

/// Throws qwen::Error for a --ctx that the model was not trained for.
void require_trained(std::optional<std::uint32_t> context, const qwen::Model& model);

}  // namespace tensor_pager::command_line
