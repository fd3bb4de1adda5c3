#pragma once

#include "options.hpp"

namespace tensor_pager::qwen_prefill {

/// Runs what the options ask for: text to stdout, everything else to stderr. Throws a
/// std::runtime_error whose message is one line.
void run(const Options& options);

}  // namespace tensor_pager::qwen_prefill
