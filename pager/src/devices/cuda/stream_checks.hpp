// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices/cuda/context.hpp"
#include "pager/device.hpp"

namespace tensor_pager::cuda {

inline CUstream stream_of(StreamRef stream) {
  return static_cast<CUstream>(stream.handle);
}

/// Throws Error if the stream is being captured, or is the null stream while one that waits for it
/// is: what the pager would queue there is nothing that a graph may replay. The capture goes on
/// unharmed. The context is current.
void require_not_captured(StreamRef stream);

/// Throws Error if events of the context cannot be recorded in the stream: it is that of another
/// GPU, or of another context.
void require_stream_of(const Context& context, StreamRef stream);

/// Different for different queues for as long as the process lives, though handles come again.
StreamId stream_id(StreamRef stream);

}  // namespace tensor_pager::cuda
