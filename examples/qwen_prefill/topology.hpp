// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace tensor_pager::qwen_prefill {

/// "2 threads on 2 cores, 1 NUMA node": what parallel work runs on, for people to read.
std::string describe_processor();

}  // namespace tensor_pager::qwen_prefill
