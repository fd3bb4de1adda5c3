// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace tensor_pager::qwen_chat {

/// A path as a shell would have it: one between quotes, as many terminals write a file that is
/// dropped on them, is what stands between them; "~" and "~/x" begin in the user's home folder,
/// "~name" and
/// "~name/x" in that of another. What is nobody's stays as it is.
std::string with_home(std::string_view path);

}  // namespace tensor_pager::qwen_chat
