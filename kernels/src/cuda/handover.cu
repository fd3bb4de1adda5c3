// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.hpp"
#include "cuda/launch_early.cuh"
#include "kernels/cuda/handover.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kWriters = 1024;
constexpr unsigned kReaders = 256;

struct Writing {
  const float* device;
  float* host;
  std::size_t count;
  unsigned* flag;
  unsigned ticket;
};

// One block, so that one barrier is behind all of the vector.
__global__ void __launch_bounds__(kWriters) write(const Writing p) {
  begin_after_others();
  for (std::size_t i = threadIdx.x; i < p.count; i += kWriters) p.host[i] = p.device[i];
  __syncthreads();
  if (threadIdx.x != 0) return;
  // Cumulative: what the other threads wrote before the barrier is ordered, too.
  __threadfence_system();
  *static_cast<volatile unsigned*>(p.flag) = p.ticket;
}

struct Reading {
  const float* host;
  float* device;
  std::size_t count;
};

// A thread has one element, since each waits for the link.
__global__ void __launch_bounds__(kReaders) read(const Reading p) {
  begin_after_others();
  const std::size_t i = std::size_t{blockIdx.x} * kReaders + threadIdx.x;
  if (i < p.count) p.device[i] = *static_cast<const volatile float*>(p.host + i);
}

}  // namespace

void write_to_host(const float* device, float* host, std::size_t count, unsigned* flag,
                   unsigned ticket, cudaStream_t stream) {
  launch_early(write, {1, kWriters, 0, stream}, Writing{device, host, count, flag, ticket});
  check_launch("write_to_host", {count});
}

void read_from_host(const float* host, float* device, std::size_t count, cudaStream_t stream) {
  if (count == 0) return;
  launch_early(read, {blocks_for(count, kReaders), kReaders, 0, stream},
               Reading{host, device, count});
  check_launch("read_from_host", {count});
}

}  // namespace tensor_pager::kernels::cuda
