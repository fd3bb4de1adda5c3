// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "command_line/device_options.hpp"
#include "command_line/parser.hpp"
#include "command_line/position_options.hpp"
#include "command_line/values.hpp"
#include "loaders/model_config.hpp"
#include "pager/policy_options.hpp"
#include "pager/types.hpp"

namespace tensor_pager::command_line {

/// How a model is run, as all programs that run one are told.
struct ModelOptions : DeviceOptions, PlacementOptions {
  Bytes page;  ///< 0: chosen by the size of the model
  PolicyOptions policy;
  std::optional<std::uint32_t> ubatch;
  loaders::RopeOverrides rope;
};

/// The declarations of ModelOptions, for the groups of a program's help, and what was typed for
/// them.
class ModelArguments {
 public:
  void add_device(CLI::App& app) { device_.add(app); }
  void add_paging(CLI::App& app);
  void add_placement(CLI::App& app) { placement_.add(app); }
  void add_ubatch(Parser& parser, CLI::App& app);
  void add_positions(CLI::App& app) { positions_.add(app); }

  /// Once they are parsed. Throws UsageError.
  ModelOptions options() const;

 private:
  DeviceArguments device_;
  std::optional<std::string> page_;
  std::optional<std::string> policy_;
  std::optional<std::string> lookahead_;
  std::optional<std::uint32_t> ubatch_;
  PlacementArguments placement_;
  PositionArguments positions_;
};

}  // namespace tensor_pager::command_line
