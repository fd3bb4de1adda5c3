// SPDX-License-Identifier: Apache-2.0
#include "command_line/model_options.hpp"

#include <CLI/CLI.hpp>

#include "command_line/checks.hpp"

namespace tensor_pager::command_line {

void ModelArguments::add_paging(CLI::App& app) {
  app.add_option("--page", page_, "Bytes per page: 2MiB, say")
      ->default_str("by the size of the model")
      ->type_name("SIZE");
  app.add_option("--policy", policy_,
                 "Which page is evicted: the one used longest ago, or the one needed last")
      ->check(CLI::IsMember({"lru", "lookahead"}))
      ->default_str("lookahead")
      ->type_name("NAME");
  app.add_option("--lookahead", lookahead_, "How many steps ahead the policy knows the plan")
      ->default_str("pass")
      ->type_name("STEPS|pass");
}

void ModelArguments::add_ubatch(Parser& parser, CLI::App& app) {
  app.add_option("--ubatch", ubatch_, "Tokens that go through a layer together")
      ->default_str("by memory and device")
      ->type_name("N");
  parser.add_alias("-ub", "--ubatch");
}

ModelOptions ModelArguments::options() const {
  ModelOptions options;
  static_cast<DeviceOptions&>(options) = device_.options();
  if (page_) options.page = parse_size("--page", *page_);
  if (page_ && options.page.count == 0) throw UsageError("--page must be more than 0");
  options.policy = parse_policy(policy_, lookahead_);
  options.ubatch = ubatch_;
  if (options.ubatch == 0U) throw UsageError("--ubatch must be at least 1");
  options.rope = positions_.overrides();
  static_cast<PlacementOptions&>(options) = placement_.options();
  return options;
}

}  // namespace tensor_pager::command_line
