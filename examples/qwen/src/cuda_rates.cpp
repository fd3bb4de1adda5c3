// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/digits.hpp"
#include "kernels/cuda/matmul.hpp"
#include "qwen/error.hpp"
#include "qwen/rates.hpp"

namespace tensor_pager::qwen {
namespace {

constexpr std::size_t kCopy = std::size_t{64} << 20;
constexpr std::size_t kSide = 8192;  // of the matrices

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw Error(std::string("calibration: ") + call + " failed: " + cudaGetErrorString(status));
}

struct FreeDevice {
  void operator()(void* data) const { cudaFree(data); }
};
struct FreeHost {
  void operator()(void* data) const { cudaFreeHost(data); }
};
struct DestroyEvent {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using DeviceMemory = std::unique_ptr<void, FreeDevice>;
using HostMemory = std::unique_ptr<void, FreeHost>;
using Event = std::unique_ptr<CUevent_st, DestroyEvent>;

DeviceMemory device_memory(std::size_t bytes) {
  void* data = nullptr;
  check(cudaMalloc(&data, bytes), "cudaMalloc");
  return DeviceMemory(data);
}

Event event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  return Event(event);
}

// In the default stream.
double best_seconds(int runs, const std::function<void()>& work) {
  const Event begin = event();
  const Event end = event();
  float best = 1e9F;
  for (int i = 0; i <= runs; ++i) {
    check(cudaEventRecord(begin.get()), "cudaEventRecord");
    work();
    check(cudaEventRecord(end.get()), "cudaEventRecord");
    check(cudaEventSynchronize(end.get()), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "cudaEventElapsedTime");
    if (i > 0) best = std::min(best, milliseconds);  // the first one loads kernels
  }
  return static_cast<double>(best) / 1e3;
}

double measure_link() {
  void* pinned = nullptr;
  check(cudaMallocHost(&pinned, kCopy), "cudaMallocHost");
  const HostMemory from(pinned);
  const DeviceMemory to = device_memory(kCopy);
  return static_cast<double>(kCopy) / best_seconds(10, [&] {
           check(cudaMemcpyAsync(to.get(), from.get(), kCopy, cudaMemcpyHostToDevice),
                 "cudaMemcpyAsync");
         });
}

// A copy within the GPU's memory reads as much as it writes.
double measure_memory() {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  const DeviceMemory from = device_memory(kBytes);
  const DeviceMemory to = device_memory(kBytes);
  return 2.0 * static_cast<double>(kBytes) / best_seconds(10, [&] {
           check(cudaMemcpyAsync(to.get(), from.get(), kBytes, cudaMemcpyDeviceToDevice),
                 "cudaMemcpyAsync");
         });
}

struct DestroyStream {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
using Stream = std::unique_ptr<CUstream_st, DestroyStream>;

/// Copies in a stream of their own, more than there is time for: of a store's bytes, one after
/// another, since what is copied over and over comes from a cache of the processors; or of a buffer
/// where the store is not pinned.
class QueuedCopies {
 public:
  explicit QueuedCopies(const BackingStore& store) : to_(device_memory(kCopy)) {
    Bytes at{};
    for (std::size_t i = 0; i < kCopies; ++i) {
      const std::uint64_t left = (store.size() - at).count;
      const Bytes size = store.pinned(at, Bytes{std::min<std::uint64_t>(kCopy, left)});
      if (size.count == 0) break;
      copies_.push_back({store.data() + at.count, size.count});
      at += size;
      if (at == store.size()) at = {};
    }
    if (copies_.size() < kCopies) use_buffer();
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    stream_.reset(stream);
    for (std::size_t i = 0; i <= kCopies; ++i) ends_.push_back(event());
  }
  // Before memory and events go.
  ~QueuedCopies() { cudaStreamSynchronize(stream_.get()); }
  QueuedCopies(const QueuedCopies&) = delete;
  QueuedCopies& operator=(const QueuedCopies&) = delete;

  void start() {
    check(cudaEventRecord(ends_.front().get(), stream_.get()), "cudaEventRecord");
    for (std::size_t i = 0; i < kCopies; ++i) {
      check(cudaMemcpyAsync(to_.get(), copies_[i].data(), copies_[i].size(), cudaMemcpyHostToDevice,
                            stream_.get()),
            "cudaMemcpyAsync");
      check(cudaEventRecord(ends_[i + 1].get(), stream_.get()), "cudaEventRecord");
    }
  }
  /// Bytes per second of those that have ended by now.
  double rate() const {
    std::size_t ended = 0;
    std::size_t bytes = 0;
    while (ended < kCopies && cudaEventQuery(ends_[ended + 1].get()) == cudaSuccess) {
      bytes += copies_[ended++].size();
    }
    if (ended == 0) throw Error("calibration: no copy to the GPU ended beside other work");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, ends_.front().get(), ends_[ended].get()),
          "cudaEventElapsedTime");
    return 1e3 * static_cast<double>(bytes) / static_cast<double>(milliseconds);
  }

 private:
  static constexpr std::size_t kCopies = 128;

  void use_buffer() {
    void* pinned = nullptr;
    check(cudaMallocHost(&pinned, kCopy), "cudaMallocHost");
    buffer_.reset(pinned);
    copies_.assign(kCopies, {static_cast<const std::byte*>(pinned), kCopy});
  }

  DeviceMemory to_;
  HostMemory buffer_;
  std::vector<std::span<const std::byte>> copies_;
  std::vector<Event> ends_;  // of each copy, and before the first
  Stream stream_;
};

double cache_bytes(int gpu) {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, gpu), "cudaDeviceGetAttribute");
  return bytes;
}

// [kSide, kSide] of normal numbers, a stretch of them repeated.
DeviceMemory operands() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<__half> stretch(std::size_t{1} << 20);
  for (__half& value : stretch) value = __float2half_rn(normal(random));
  const std::size_t bytes = kSide * kSide * sizeof(__half);
  const std::size_t piece = stretch.size() * sizeof(__half);
  DeviceMemory data = device_memory(bytes);
  for (std::size_t at = 0; at < bytes; at += piece) {
    check(cudaMemcpy(static_cast<std::byte*>(data.get()) + at, stretch.data(), piece,
                     cudaMemcpyHostToDevice),
          "cudaMemcpy");
  }
  return data;
}

double measure_arithmetic() {
  using kernels::cuda::Operand;
  static_assert(sizeof(Operand) == sizeof(__half));
  const DeviceMemory w = operands();
  const DeviceMemory x = operands();
  const DeviceMemory y = device_memory(kSide * kSide * sizeof(float));
  const std::size_t scratch_bytes = kernels::cuda::Products::operand_scratch_bytes(0, 0);
  const DeviceMemory scratch = device_memory(scratch_bytes);
  kernels::cuda::Products products;
  const kernels::cuda::OperandView input{static_cast<Operand*>(x.get()), kSide, kSide};
  // Long enough for the clock to be the one that the GPU can keep up: the first milliseconds are
  // faster.
  constexpr int kTogether = 100;
  const double operations = 2.0 * kSide * kSide * kSide * kTogether;
  return operations / best_seconds(2, [&] {
           for (int i = 0; i < kTogether; ++i) {
             products.multiply(static_cast<const Operand*>(w.get()), kSide, input,
                               {static_cast<float*>(y.get()), kSide, kSide}, {},
                               {static_cast<std::byte*>(scratch.get()), scratch_bytes}, nullptr);
           }
         });
}

}  // namespace

MachineRates measure_cuda_rates(int gpu) {
  check(cudaSetDevice(gpu), "cudaSetDevice");
  return {.link = measure_link(),
          .memory = measure_memory(),
          .arithmetic = measure_arithmetic(),
          .cache = cache_bytes(gpu)};
}

double measure_link_beside(int gpu, const BackingStore& store, const std::function<void()>& work) {
  check(cudaSetDevice(gpu), "cudaSetDevice");
  QueuedCopies copies(store);
  copies.start();
  work();
  return copies.rate();
}

std::optional<std::string> gpu_address(int gpu) {
  std::array<char, 32> text{};
  if (cudaDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), gpu) != cudaSuccess)
    return std::nullopt;
  std::string address(text.data());
  // As the system writes it.
  std::ranges::transform(address, address.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return address;
}

std::uint32_t most_few_tokens() {
  return static_cast<std::uint32_t>(kernels::cuda::kMostFewTokens);
}

}  // namespace tensor_pager::qwen
