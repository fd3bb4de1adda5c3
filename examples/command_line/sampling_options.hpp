// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "command_line/parser.hpp"
#include "command_line/sampling.hpp"

namespace tensor_pager::command_line {

/// The declarations of SamplingWishes and of a seed, in the order in which a sampler applies them,
/// and what was typed for them.
class SamplingArguments {
 public:
  explicit SamplingArguments(std::string seed = "0") : seed_(std::move(seed)) {}
  void add(CLI::App& app);

  /// Once they are parsed; here and below. Throws UsageError.
  SamplingWishes wishes() const;
  /// Nothing: another one each time.
  std::optional<std::uint64_t> seed() const;

 private:
  void add_penalties(CLI::App& app);
  void add_filters(CLI::App& app);
  void add_draw(CLI::App& app);

  SamplingWishes wishes_;
  std::string seed_;
};

}  // namespace tensor_pager::command_line
