// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/App.hpp>
#include <optional>
#include <string>

#include "loaders/model_config.hpp"

namespace tensor_pager::command_line {

/// How positions are told apart, where that is not as the model says.
class PositionArguments {
 public:
  void add(CLI::App& app);

  /// Once they are parsed. Throws UsageError.
  loaders::RopeOverrides overrides() const;

 private:
  std::optional<std::string> scaling_;
  loaders::RopeOverrides numbers_;
};

}  // namespace tensor_pager::command_line
