// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pager/types.hpp"

namespace tensor_pager::qwen {

/// Host memory that this process can still take: MemAvailable of /proc/meminfo, or what the limits
/// of its control groups (version 2, and the memory controller of version 1) leave if that is less.
/// Page cache that can be dropped counts as available. Throws Error if the system does not say.
Bytes available_host_memory();

}  // namespace tensor_pager::qwen
