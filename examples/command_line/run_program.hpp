// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string_view>

namespace tensor_pager::command_line {

/// Runs a program's `work` and returns its exit status: 0 when it is done, or has printed the text
/// that a TextRequest asks for; 2 after a UsageError, 128 + its signal after Interrupted, and 1
/// after any other exception, with one line on stderr that begins with `name`. Output that could
/// not be written is a failure, too, and so is a mapped file that becomes shorter (BusErrorGuard).
/// `out_of_memory` is what its user can do if there is too little host memory.
int run_program(std::string_view name, const std::function<void()>& work,
                std::string_view out_of_memory = "end other programs");

}  // namespace tensor_pager::command_line
