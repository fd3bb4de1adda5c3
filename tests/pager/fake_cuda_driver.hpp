// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <string>

// A CUDA driver without a GPU, for what a GPU does too seldom: calls that fail. It is a library of
// the driver's name, so that a program that is linked with it finds no other. It has two GPUs,
// whose memory is the host's, and whose streams are done at once. A call without a current context,
// or with a capture mode that breaks the caller's captures, ends the program.

namespace fake_cuda {

/// What fails from now on, on whatever thread.
struct Faults {
  std::atomic<bool> event_create = false;
  std::atomic<bool> event_record = false;
  std::atomic<bool> event_query = false;
  std::atomic<bool> set_access = false;
  std::atomic<bool> memset = false;
  std::atomic<int> maps_left = -1;  ///< so many calls of cuMemMap succeed; all if it is negative
  /// Not a failure: events have not passed yet.
  std::atomic<bool> busy = false;
  /// The handle of a stream that is being captured; what touches it ends the program.
  std::atomic<void*> captured = nullptr;
};
Faults& faults();

/// "2 events, 1 context": what was taken and not returned; empty if there is nothing.
std::string held();

/// Mappings that exist.
int mappings();

/// Whether the calling thread has no current context and the capture mode of every new thread.
bool thread_is_untouched();

/// Makes a stream of a GPU, as a caller would.
void* make_stream(int gpu);
void destroy_stream(void* stream);

}  // namespace fake_cuda
