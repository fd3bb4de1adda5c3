// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "command_line/model_options.hpp"

namespace tensor_pager::pager_bench {

enum class Format { md, csv, json, jsonl };

/// Lists make a cross product.
struct Options : command_line::ModelOptions {
  std::filesystem::path model;
  std::vector<std::uint32_t> prompts = {512};
  std::vector<std::uint32_t> generated = {0};
  std::vector<std::uint32_t> sequences = {1};  ///< of generation, together
  std::vector<std::uint32_t> depths = {0};     ///< of generation: tokens that came before
  std::uint32_t repetitions = 5;
  std::vector<std::optional<Bytes>> vram = {std::nullopt};  ///< nothing: 90% of what is free
  /// Nothing: what the memory leaves.
  std::vector<std::optional<std::variant<Bytes, qwen::Percent>>> arenas = {std::nullopt};
  std::vector<double> link_rates = {0};  ///< bytes per second; 0 is as fast as the link is
  bool warm = false;
  bool calibrate_only = false;
  Format format = Format::md;
  bool quiet = false;
};

/// Throws what command_line::Parser throws.
Options parse_options(int argc, const char* const* argv);

}  // namespace tensor_pager::pager_bench
