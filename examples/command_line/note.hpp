// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace tensor_pager::command_line {

/// Writes text to stderr, as it is. What cannot be written is lost: a run does not fail since
/// nobody reads what it says beside its output.
void note(std::string_view text);

/// The same as one line that begins with the program's name. Line breaks in `text` become blanks,
/// other control characters \xNN, whatever a command line or a library brought in.
void note_line(std::string_view program, std::string_view text);

}  // namespace tensor_pager::command_line
