// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"

namespace tensor_pager::qwen_prefill {

/// Runs what the options ask for: text to stdout, or to stderr if statistics or a trace go to
/// stdout; everything else to stderr. Throws a std::runtime_error whose message is one line.
///
/// An interrupt (SIGINT, SIGTERM) while the model runs ends the run after its present step: the
/// summary, statistics and trace are of what was done by then, and command_line::Interrupted is
/// thrown.
void run(const Options& options);

}  // namespace tensor_pager::qwen_prefill
