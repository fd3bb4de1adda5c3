// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace tensor_pager::tests {

/// A Jinja string of Qwen2.5's template, which says what the model is told first.
extern const char* const kChatTemplate;

/// Writes the small model as one that can think: the last two merged tokens are marks for what is
/// thought, and its template has them. `bias` is added to logits of tokens, by their texts. Returns
/// `path`.
std::filesystem::path write_thinking_model(const std::filesystem::path& path,
                                           const std::map<std::string, float>& bias = {});

}  // namespace tensor_pager::tests
