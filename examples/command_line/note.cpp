// SPDX-License-Identifier: Apache-2.0
#include "command_line/note.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "loaders/printable.hpp"

namespace tensor_pager::command_line {

// Not fmt::print, which throws if a stream cannot be written.
void note(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

void note_line(std::string_view program, std::string_view text) {
  std::string line(text);
  std::ranges::replace(line, '\n', ' ');
  note(fmt::format("{}: {}\n", program, loaders::printable(line)));
}

}  // namespace tensor_pager::command_line
