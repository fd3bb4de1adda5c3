// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "command_line/values.hpp"
#include "loaders/model_config.hpp"
#include "simulated_model.hpp"

namespace tensor_pager::pager_sim {

enum class Format { md, json };

/// Lists make a cross product.
struct Options {
  ModelSource model;
  loaders::RopeOverrides rope;
  std::vector<std::uint32_t> prompts = {2048};  ///< none is 0
  std::vector<std::uint32_t> generated;         ///< numbers of tokens generated one by one
  std::uint32_t sequences = 1;                  ///< of generation, a token of each at a time
  std::vector<qwen::PlaceWish> places;          ///< of generation
  std::vector<std::variant<Bytes, qwen::Percent>> arenas;
  std::vector<Bytes> vram;  ///< all memory of a run, instead of arenas; none: arenas are given
  /// What predictions are for: "h200", "this", or a file of pager_bench. Empty: "this" for host's
  /// pages, else "h200".
  std::string machine;
  bool host = false;
  // Instead of the machine's:
  std::vector<double> link_rates;  ///< bytes per second
  std::vector<double> arithmetic;  ///< operations per second
  std::vector<std::string> policies = {"lookahead"};
  std::optional<double> weights_rate;  ///< bytes of weights per second that steps read besides
  std::optional<double> cpu_rate;      ///< bytes of weights per second that processors read
  std::optional<double> map_seconds;
  Bytes page;
  Bytes granularity = MiB(2);
  std::uint32_t ubatch = 8192;  ///< or as many as the memory allows
  std::uint32_t passes = 3;
  bool warm = false;
  std::optional<std::filesystem::path> against;  ///< measurements of pager_bench
  double tolerance = 0.1;                        ///< of a prediction's error
  Format format = Format::md;
  bool quiet = false;
};

/// Throws what command_line::Parser throws.
Options parse_options(int argc, const char* const* argv);

}  // namespace tensor_pager::pager_sim
