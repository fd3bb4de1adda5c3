// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "command_line/device_options.hpp"
#include "command_line/sampling.hpp"
#include "loaders/model_config.hpp"

namespace tensor_pager::qwen_chat {

/// What is shown of what the model thinks before it answers.
enum class Thinking : std::uint8_t {
  dim,   ///< all of it, in another shade on a terminal
  hide,  ///< nothing
  off,   ///< it does not think
};

struct Options : command_line::DeviceOptions,
                 command_line::MemoryOptions,
                 command_line::PlacementOptions {
  std::filesystem::path model;
  std::optional<std::string> system;  ///< nothing: what the model's file says
  std::optional<std::filesystem::path> session;
  std::optional<std::uint32_t> context;
  std::optional<std::uint32_t> most;  ///< tokens of an answer; nothing: until it ends
  Thinking thinking = Thinking::dim;
  command_line::SamplingWishes sampling;
  std::optional<std::uint64_t> seed;  ///< nothing: another one each time
  loaders::RopeOverrides rope;
  bool quiet = false;
};

/// Throws what command_line::Parser throws.
Options parse_options(int argc, const char* const* argv);

}  // namespace tensor_pager::qwen_chat
