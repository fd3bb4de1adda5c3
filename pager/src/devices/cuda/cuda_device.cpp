// SPDX-License-Identifier: Apache-2.0
#include "pager/cuda_device.hpp"

#include <array>
#include <functional>
#include <string>
#include <utility>

#include "devices/cuda/context.hpp"
#include "devices/cuda/copy_queue.hpp"
#include "devices/cuda/event_clock.hpp"
#include "devices/cuda/event_times.hpp"
#include "devices/cuda/first_failure.hpp"
#include "devices/cuda/paged_range.hpp"
#include "devices/cuda/poller.hpp"
#include "devices/cuda/stream.hpp"
#include "devices/memory_count.hpp"
#include "devices/progress.hpp"
#include "left_behind.hpp"

namespace tensor_pager {

namespace {

using cuda::CurrentContext;
using cuda::driver;

/// What a device consists of, in the order in which it is made; the poller's thread, which uses
/// the rest, starts last and ends first.
struct Parts {
  explicit Parts(const CudaDeviceOptions& options)
      : context(options.gpu),
        copies(context, range, poller, failure,
               {.link_bytes_per_second = options.link_bytes_per_second, .trace = options.trace}) {
    poller.start([this] { return observe(); });
  }
  ~Parts() { poller.stop(); }
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  cuda::Poller::Seen observe() {
    times.renew();
    const auto a = copies.observe(times);
    const auto b = clock.observe(times);
    return {.pending = a.pending || b.pending, .progress = a.progress || b.progress};
  }

  cuda::Context context;
  cuda::FirstFailure failure;
  Progress progress;
  MemoryCount memory;
  cuda::Poller poller{context, progress, failure};
  cuda::EventTimes times{context};
  cuda::PagedRange range{context, memory};
  cuda::CopyQueue copies;
  cuda::EventClock clock{context, poller, failure};
  cuda::Stream zeroing{context};
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(const CudaDeviceOptions& options) : parts_(new Parts(options)) {
    std::array<char, 256> name{};
    cuda::check(driver().cuDeviceGetName(name.data(), static_cast<int>(name.size()) - 1,
                                         parts_->context.device()),
                "cuDeviceGetName");
    name_ = name.data();
  }

  DeviceInfo info() const override {
    return {.kind = "cuda", .name = name_, .page_granularity = parts_->range.granularity()};
  }
  AddressRange& range() override { return parts_->range; }
  CopyEngine& copies() override { return parts_->copies; }
  StreamClock& clock() override { return parts_->clock; }
  void on_progress(std::function<void()> notify) override {
    parts_->context.require_here();
    parts_->progress.listen(std::move(notify));
  }
  LinkStatistics link() const override { return parts_->copies.statistics(); }
  MemoryStatistics memory() const override {
    parts_->context.require_here();
    return parts_->memory.get();
  }

 protected:
  std::byte* allocate_memory(Bytes size) override;
  void free_memory(std::byte* data, Bytes size) noexcept override;

 private:
  void zero(CUdeviceptr data, Bytes size);

  OwnedHere<Parts> parts_;
  std::string name_;
};

std::byte* CudaDevice::allocate_memory(Bytes size) {
  const CurrentContext current(parts_->context);
  CUdeviceptr data = 0;
  const CUresult result = driver().cuMemAlloc(&data, size.count);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    throw DeviceError(cuda::with_bytes("cuMemAlloc", size) + " failed: the GPU has " +
                      cuda::free_memory() + " free; ask for less, or end what else uses the GPU");
  }
  cuda::check(result, "cuMemAlloc", size);
  try {
    zero(data, size);
  } catch (...) {
    driver().cuMemFree(data);
    throw;
  }
  parts_->memory.add(size);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): CUDA's addresses are numbers
  return reinterpret_cast<std::byte*>(data);
}

/// Returns when it is done: the caller's streams may wait for no other.
void CudaDevice::zero(CUdeviceptr data, Bytes size) {
  const CUstream stream = parts_->zeroing.handle();
  cuda::check(driver().cuMemsetD8Async(data, 0, size.count, stream), "cuMemsetD8Async", size);
  cuda::check(driver().cuStreamSynchronize(stream), "cuMemsetD8Async", size);
}

void CudaDevice::free_memory(std::byte* data, Bytes size) noexcept {
  const CurrentContext current(parts_->context, std::nothrow);
  if (!current) return;
  driver().cuMemFree(reinterpret_cast<CUdeviceptr>(data));
  parts_->memory.remove(size);
}

}  // namespace

int cuda_device_count() {
  return cuda::device_count();
}

Bytes cuda_free_memory(int gpu) {
  const cuda::Context context(gpu);
  const CurrentContext current(context);
  std::size_t free = 0;
  std::size_t total = 0;
  cuda::check(driver().cuMemGetInfo(&free, &total), "cuMemGetInfo");
  return {free};
}

std::unique_ptr<Device> make_cuda_device(const CudaDeviceOptions& options) {
  return std::make_unique<CudaDevice>(options);
}

}  // namespace tensor_pager
