// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace tensor_pager::tests {

/// A place in a source file that makes an error.
struct MessageSite {
  std::filesystem::path file;
  std::size_t line = 0;
  /// What stands between the values in its message, in order.
  std::vector<std::string> texts;
};

/// Places in C++ text that make errors: throw expressions with an operand, functions whose result
/// is an error, and failures that are kept for later ("failure = ...").
std::vector<MessageSite> message_sites(const std::filesystem::path& file, const std::string& text);

}  // namespace tensor_pager::tests
