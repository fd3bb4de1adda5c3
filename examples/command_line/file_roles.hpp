// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

namespace tensor_pager::command_line {

/// A file that an option names, if it was given.
struct FileOfOption {
  std::string_view option;
  std::optional<std::filesystem::path> path;  ///< "-" is stdout or stdin
};

/// Throws UsageError if two outputs are one file, or if an output would replace an input: what was
/// in it would be lost. Links and other spellings of a name are seen through.
void require_files_of_their_own(const std::vector<FileOfOption>& outputs,
                                const std::vector<FileOfOption>& inputs);

}  // namespace tensor_pager::command_line
