// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <tbb/cache_aligned_allocator.h>
#include <tbb/parallel_for.h>

#include <cstddef>
#include <vector>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace tensor_pager::kernels::cpu {

/// Float buffer on its own cache lines, as vector loads want it.
using AlignedFloats = std::vector<float, tbb::cache_aligned_allocator<float>>;

/// A point that some threads pass after others. oneTBB as packaged is not instrumented, so
/// ThreadSanitizer has to be told what parallel_for orders; without it, this is nothing.
class OrderedPoint {
 public:
#ifdef __SANITIZE_THREAD__
  void arrive() {
    __tsan_release(this);
  }
  void leave() {
    __tsan_acquire(this);
  }

 private:
  char address_ = 0;  // what ThreadSanitizer knows the point by
#else
  void arrive() {}
  void leave() {}
#endif
};

/// body(i) for i in [0, count), on the caller's thread alone if the whole is less work than handing
/// it out (about 20 us).
template <class Body>
void parallel_tasks(std::size_t count, double total_operations, const Body& body) {
  constexpr double kWorthSharing = 200e3;
  if (count < 2 || total_operations < kWorthSharing) {
    for (std::size_t i = 0; i < count; ++i) body(i);
    return;
  }
  OrderedPoint begin;
  OrderedPoint end;
  begin.arrive();
  tbb::parallel_for(std::size_t{0}, count, [&](std::size_t i) {
    begin.leave();
    body(i);
    end.arrive();
  });
  end.leave();
}

}  // namespace tensor_pager::kernels::cpu
