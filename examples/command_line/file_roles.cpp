// SPDX-License-Identifier: Apache-2.0
#include "command_line/file_roles.hpp"

#include <fmt/format.h>

#include "command_line/usage_error.hpp"
#include "output/replacement_file.hpp"

namespace tensor_pager::command_line {
namespace {

void require_no_input(const FileOfOption& output, const FileOfOption& input) {
  if (!input.path || *input.path == "-" || !output::is_same_file(*output.path, *input.path)) return;
  throw UsageError(fmt::format("{} would replace {}, which {} reads; give another file",
                               output.option, input.path->string(), input.option));
}

}  // namespace

void require_files_of_their_own(const std::vector<FileOfOption>& outputs,
                                const std::vector<FileOfOption>& inputs) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].path) continue;
    for (const FileOfOption& input : inputs) require_no_input(outputs[i], input);
    for (std::size_t j = i + 1; j < outputs.size(); ++j) {
      if (!outputs[j].path || !output::is_same_file(*outputs[i].path, *outputs[j].path)) continue;
      throw UsageError(fmt::format("{} and {} go to the same file; give each its own",
                                   outputs[i].option, outputs[j].option));
    }
  }
}

}  // namespace tensor_pager::command_line
