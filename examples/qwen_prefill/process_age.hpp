// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace tensor_pager::qwen_prefill {

/// Time since this process was started (exec), to a hundredth of a second. Zero where the system
/// does not say.
std::chrono::nanoseconds process_age();

}  // namespace tensor_pager::qwen_prefill
