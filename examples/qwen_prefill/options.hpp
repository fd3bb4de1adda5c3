// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>

#include "command_line/model_options.hpp"
#include "command_line/sampling.hpp"
#include "pager/types.hpp"
#include "qwen/memory_plan.hpp"

namespace tensor_pager::qwen_prefill {

using command_line::DeviceKind;
using command_line::UsageError;

/// Where prompts come from; exactly one of the four is given.
struct PromptText {
  std::string text;
};
struct PromptFile {
  std::filesystem::path path;  ///< "-" is standard input
};
struct TokensFile {
  std::filesystem::path path;  ///< likewise
};
struct PromptLines {
  std::filesystem::path path;  ///< likewise; each line is a prompt
};
using PromptSource = std::variant<PromptText, PromptFile, TokensFile, PromptLines>;

struct Options : command_line::ModelOptions, command_line::MemoryOptions {
  std::filesystem::path model;
  PromptSource prompt;
  std::optional<std::uint32_t> predict = 32;  ///< nothing: until the model ends, or the context
  std::optional<std::filesystem::path> load_session;  ///< what comes before the prompt
  std::optional<std::filesystem::path> save_session;  ///< what the prompt was prefilled to
  std::optional<std::uint32_t> parallel;  ///< sequences at a time; nothing: 1, or all lines
  command_line::SamplingWishes sampling;
  std::optional<std::uint64_t> seed = 0;  ///< nothing: another one each time
  bool pin_files = true;
  std::optional<std::uint32_t> context;
  std::optional<std::filesystem::path> logits;
  bool perplexity = false;
  std::optional<std::filesystem::path> stats;  ///< "-" is stdout, here and below
  std::optional<std::filesystem::path> trace;
  bool publish = true;
  bool quiet = false;
};

/// Throws what command_line::Parser throws.
Options parse_options(int argc, const char* const* argv);

}  // namespace tensor_pager::qwen_prefill
