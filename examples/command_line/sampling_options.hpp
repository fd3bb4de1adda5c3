// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "command_line/parser.hpp"
#include "command_line/sampling.hpp"

namespace tensor_pager::command_line {

/// What a program takes where neither its user nor the model's file says otherwise, for its help.
struct SamplingDefaults {
  std::string seed = "0";
  std::string top_k = "40";
  std::string top_p = "0.95";
  std::string min_p = "0.05";
  std::string temperature = "0.8 with --top-k, --top-p or --min-p, 0 without";
};

/// The declarations of SamplingWishes and of a seed, in the order in which a sampler applies them,
/// and what was typed for them.
class SamplingArguments {
 public:
  explicit SamplingArguments(SamplingDefaults defaults = {})
      : defaults_(std::move(defaults)), seed_(defaults_.seed) {}
  void add(CLI::App& app);

  /// Once they are parsed; here and below. Throws UsageError.
  SamplingWishes wishes() const;
  /// Nothing: another one each time.
  std::optional<std::uint64_t> seed() const;

 private:
  void add_penalties(CLI::App& app);
  void add_filters(CLI::App& app);
  void add_draw(CLI::App& app);

  SamplingDefaults defaults_;
  SamplingWishes wishes_;
  std::string seed_;
};

}  // namespace tensor_pager::command_line
