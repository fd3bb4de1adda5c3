// SPDX-License-Identifier: Apache-2.0
// The pager on a GPU: kernels in the caller's stream check the pages that they read.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <sstream>
#include <vector>

#include "core/core.hpp"
#include "pager/cuda_device.hpp"
#include "pager/pager.hpp"

namespace tensor_pager::testing {
namespace {

constexpr Bytes kPage = MiB(2);
constexpr std::uint32_t kPages = 24;

/// Word i of the image. A page that holds another page's bytes, or old ones, is noticed at its
/// first word.
__host__ __device__ std::uint32_t word(std::uint64_t i) {
  return static_cast<std::uint32_t>(i * 2654435761U + 12345U);
}

/// Counts words [0, count) at `data` that are not words first + [0, count) of the image; `repeat`
/// makes the work longer.
__global__ void count_wrong(const std::uint32_t* data, std::uint64_t first, std::uint64_t count,
                            int repeat, unsigned long long* wrong) {
  for (int round = 0; round < repeat; ++round) {
    for (std::uint64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += std::uint64_t{gridDim.x} * blockDim.x) {
      if (data[i] != word(first + i)) atomicAdd(wrong, 1ULL);
    }
  }
}

/// Pinned host memory that holds the image.
class PinnedImage final : public BackingStore {
 public:
  explicit PinnedImage(Bytes size) : size_(size) {
    cudaMallocHost(&data_, size.count);
    auto* const words = static_cast<std::uint32_t*>(data_);
    for (std::uint64_t i = 0; i < size.count / 4; ++i) words[i] = word(i);
  }
  ~PinnedImage() override { cudaFreeHost(data_); }

  Bytes size() const override { return size_; }
  void read(Bytes offset, std::span<std::byte> out) const override {
    std::memcpy(out.data(), data() + offset.count, out.size());
  }
  const std::byte* data() const override { return static_cast<const std::byte*>(data_); }
  Bytes pinned(Bytes, Bytes size) const override { return size; }

 private:
  Bytes size_;
  void* data_ = nullptr;
};

class CudaPager : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU on this machine";
    store_ = std::make_shared<PinnedImage>(kPage * kPages - Bytes{4096});
    cudaMalloc(&wrong_, sizeof(unsigned long long));
    cudaMemset(wrong_, 0, sizeof(unsigned long long));
    streams_.resize(3);
    for (cudaStream_t& stream : streams_) cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  }
  void TearDown() override {
    for (cudaStream_t stream : streams_) cudaStreamDestroy(stream);
    cudaFree(wrong_);
  }

  std::unique_ptr<Pager> make(std::uint32_t frames, const PolicyOptions& policy = {},
                              Trace* trace = nullptr) {
    return std::make_unique<Pager>(
        make_cuda_device({.gpu = 0, .link_bytes_per_second = 0, .trace = trace}), store_,
        PagerOptions{.arena = kPage * frames, .page = kPage, .policy = policy});
  }

  static AccessPlan cycle() {
    AccessPlan plan;
    for (std::uint32_t page = 0; page < kPages; ++page)
      plan.steps.push_back({.reads = {bytes_of(page)}});
    return plan;
  }
  static ByteRange bytes_of(std::uint32_t page) {
    return PageLayout{kPage * kPages - Bytes{4096}, kPage}.bytes_of({page});
  }

  void check_page(const Pager& pager, std::uint32_t page, cudaStream_t stream, int repeat) {
    const ByteRange bytes = bytes_of(page);
    count_wrong<<<64, 256, 0, stream>>>(
        reinterpret_cast<const std::uint32_t*>(pager.address(bytes.offset)), bytes.offset.count / 4,
        bytes.size.count / 4, repeat, wrong_);
  }

  unsigned long long wrong() {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    unsigned long long count = ~0ULL;
    EXPECT_EQ(cudaMemcpy(&count, wrong_, sizeof count, cudaMemcpyDeviceToHost), cudaSuccess);
    return count;
  }

  std::shared_ptr<PinnedImage> store_;
  unsigned long long* wrong_ = nullptr;
  std::vector<cudaStream_t> streams_;
};

TEST_F(CudaPager, KernelsFindTheirPagesAtAnyArenaPolicyAndDepth) {
  for (const std::uint32_t frames : {1U, 2U, 5U, 12U, kPages}) {
    for (const PolicyOptions& policy :
         {PolicyOptions{.window = 0}, PolicyOptions{.window = 3, .prefetch_depth = 2},
          PolicyOptions{.window = kWholePass, .prefetch_depth = 4}}) {
      const auto pager = make(frames, policy);
      pager->set_plan(cycle());
      for (int pass = 0; pass < 3; ++pass) {
        for (std::uint32_t step = 0; step < kPages; ++step) {
          const Lease lease = pager->acquire(StepIndex{step}, {}, {streams_[0]});
          check_page(*pager, step, streams_[0], 1 + static_cast<int>(step % 3) * 20);
        }
      }
      ASSERT_EQ(wrong(), 0U) << frames << " frames, window " << policy.window;
      EXPECT_EQ(pager->statistics().memory.peak, kPage * frames);
    }
  }
}

TEST_F(CudaPager, SeveralStreamsShareAnArena) {
  const auto pager = make(6);
  pager->set_plan(cycle());
  for (std::uint32_t i = 0; i < 10 * kPages; ++i) {
    cudaStream_t stream = streams_[i % streams_.size()];
    const Lease lease = pager->acquire(StepIndex{i % kPages}, {}, {stream});
    check_page(*pager, i % kPages, stream, 1 + static_cast<int>(i % 7) * 10);
  }
  EXPECT_EQ(wrong(), 0U);
}

TEST_F(CudaPager, ArenaShrinksAndGrowsUnderWork) {
  const auto pager = make(12);
  pager->set_plan(cycle());
  for (const std::uint32_t frames : {12U, 3U, 8U, 1U, kPages}) {
    pager->set_arena(kPage * frames);
    EXPECT_EQ(pager->device().memory().current, kPage * frames);
    for (std::uint32_t step = 0; step < kPages; ++step) {
      const Lease lease = pager->acquire(StepIndex{step}, {}, {streams_[0]});
      check_page(*pager, step, streams_[0], 10);
    }
  }
  EXPECT_EQ(wrong(), 0U);
}

TEST_F(CudaPager, CopiesEqualThoseOfTheHostDevice) {
  const PolicyOptions policy{.window = kWholePass, .prefetch_depth = 3};
  const auto pager = make(7, policy);
  pager->set_plan(cycle());
  for (int pass = 0; pass < 4; ++pass) {
    for (std::uint32_t step = 0; step < kPages; ++step) {
      const Lease lease = pager->acquire(StepIndex{step}, {}, {streams_[0]});
      check_page(*pager, step, streams_[0], 5);
    }
  }
  EXPECT_EQ(wrong(), 0U);
  // Timing must not matter: the same walk without a device decides the same copies.
  Core core({.layout = pager->layout(), .frames = 7, .policy = policy});
  core.set_plan(cycle());
  const auto carry_out = [&] {
    for (Commands commands = core.take_commands(); !commands.empty();
         commands = core.take_commands()) {
      for (const PageRun& run : commands.copies) {
        for (std::uint32_t k = 0; k < run.count; ++k) core.copy_finished({run.first.value + k});
      }
    }
  };
  carry_out();
  for (int pass = 0; pass < 4; ++pass) {
    for (std::uint32_t step = 0; step < kPages; ++step) {
      const LeaseId lease = core.acquire(StepIndex{step}, {}, CallerId{1});
      carry_out();
      core.release(lease, std::nullopt);
      carry_out();
    }
  }
  EXPECT_EQ(pager->statistics().core.loads, core.counters().loads);
}

TEST_F(CudaPager, MoreThanTheGpuHasIsAnErrorThatSaysSo) {
  std::size_t free = 0;
  std::size_t total = 0;
  cudaMemGetInfo(&free, &total);
  const auto device = make_cuda_device();
  device->range().reserve({.image = Bytes{total} * 2, .page = GiB(1)});
  const auto fill = [&] {
    for (std::uint32_t frame = 0; frame <= total >> 30; ++frame)
      device->range().create_frame({frame});
  };
  try {
    fill();
    FAIL() << "the GPU took more frames than it has memory";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("give the arena less"), std::string::npos)
        << error.what();
  }
}

TEST_F(CudaPager, CopiesAreTracedOnTheHostsClock) {
  Trace trace;
  const auto begin = Trace::Clock::now();
  const auto pager = make(4, {.window = 0}, &trace);
  const ByteRange first = bytes_of(0);
  {
    const Lease lease = pager->acquire(std::span(&first, 1), {streams_[0]});
    cudaStreamSynchronize(streams_[0]);
  }
  while (pager->statistics().link.copies == 0) {
  }
  const auto end = Trace::Clock::now();
  const auto spans = trace.spans(Trace::Track::copies);
  ASSERT_EQ(spans.size(), 1U);
  EXPECT_GE(spans[0].first, begin);
  EXPECT_LE(spans[0].second, end);
  EXPECT_LT(spans[0].first, spans[0].second);
}

}  // namespace
}  // namespace tensor_pager::testing
