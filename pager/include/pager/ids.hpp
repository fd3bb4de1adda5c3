// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tensor_pager {

/// Names a lease of a pager.
enum class LeaseId : std::uint64_t {};
/// Names a copy. Later copies have greater ids; copies end in the order in which they were started.
enum class CopyId : std::uint64_t {};
/// Names a point in a stream; the fence passes when the work queued before it is done.
enum class FenceId : std::uint64_t {};
/// A caller's queue of work. Work of one stream passes in the order in which it was queued.
enum class StreamId : std::uint64_t {};
/// Names a moment in a stream.
enum class StampId : std::uint64_t {};

}  // namespace tensor_pager
