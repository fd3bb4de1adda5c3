// SPDX-License-Identifier: Apache-2.0
#include "command_line/position_options.hpp"

#include <CLI/CLI.hpp>

#include "command_line/checks.hpp"
#include "command_line/usage_error.hpp"

namespace tensor_pager::command_line {

void PositionArguments::add(CLI::App& app) {
  app.add_option("--rope-scaling", scaling_,
                 "How positions beyond the trained context are told apart")
      ->check(CLI::IsMember({"none", "linear", "yarn"}))
      ->default_str("as the model says")
      ->type_name("KIND");
  app.add_option("--rope-scale", numbers_.factor,
                 "How many times longer that makes the context: 4, say")
      ->check(positive())  // it is what a NaN is not
      ->check(in_range(0.01, 1e6))
      ->default_str("as the model says")
      ->type_name("N");
  app.add_option("--rope-freq-base", numbers_.frequency_base, "Base of RoPE's frequencies")
      ->check(positive())
      ->check(in_range(2, 1e30))
      ->default_str("as the model says")
      ->type_name("N");
  app.add_option("--yarn-orig-ctx", numbers_.original_context_length,
                 "Context that the model was trained with")
      ->check(in_range(1, 1 << 30))
      ->default_str("as the model says")
      ->type_name("N");
}

loaders::RopeOverrides PositionArguments::overrides() const {
  using loaders::RopeScalingKind;
  loaders::RopeOverrides all = numbers_;
  if (!scaling_) return all;
  if (*scaling_ == "none" && all.factor) {
    throw UsageError("--rope-scaling none and --rope-scale exclude one another");
  }
  all.scaling = *scaling_ == "linear" ? RopeScalingKind::linear
                : *scaling_ == "yarn" ? RopeScalingKind::yarn
                                      : RopeScalingKind::none;
  return all;
}

}  // namespace tensor_pager::command_line
