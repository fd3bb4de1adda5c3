#pragma once

#include <tbb/cache_aligned_allocator.h>
#include <tbb/parallel_for.h>

#include <cstddef>
#include <vector>

namespace tensor_pager::kernels::cpu {

/// Float buffer on its own cache lines, as vector loads want it.
using AlignedFloats = std::vector<float, tbb::cache_aligned_allocator<float>>;

/// body(i) for i in [0, count), on the caller's thread alone if the whole is less work than handing
/// it out (about 20 us).
template <class Body>
void parallel_tasks(std::size_t count, double total_operations, const Body& body) {
  constexpr double kWorthSharing = 200e3;
  if (count < 2 || total_operations < kWorthSharing) {
    for (std::size_t i = 0; i < count; ++i) body(i);
  } else {
    tbb::parallel_for(std::size_t{0}, count, body);
  }
}

}  // namespace tensor_pager::kernels::cpu
