// SPDX-License-Identifier: Apache-2.0
// What a program that uses CUDA itself sees of the pager: nothing. Its device, its last error, its
// captures and its forked children are what they would be without one. The caller's side is the
// CUDA runtime, which the pager does not use.
#include <cuda.h>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "../temporary_directory.hpp"
#include "pager/cuda_device.hpp"
#include "pager/pager.hpp"
#include "pager/pinned_store.hpp"

namespace tensor_pager::testing {
namespace {

using ::testing::HasSubstr;

constexpr Bytes kPage = MiB(2);
constexpr std::uint32_t kPages = 12;
constexpr Bytes kImage = kPage * kPages - Bytes{4096};

/// Word i of the image. A page that holds another page's bytes, or old ones, is noticed at its
/// first word.
__host__ __device__ std::uint32_t word(std::uint64_t i) {
  return static_cast<std::uint32_t>(i * 2654435761U + 12345U);
}

/// Counts words [0, count) at `data` that are not words first + [0, count) of the image.
__global__ void count_wrong(const std::uint32_t* data, std::uint64_t first, std::uint64_t count,
                            unsigned long long* wrong) {
  for (std::uint64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
       i += std::uint64_t{gridDim.x} * blockDim.x) {
    if (data[i] != word(first + i)) atomicAdd(wrong, 1ULL);
  }
}

ByteRange bytes_of(std::uint32_t page) {
  return PageLayout{kImage, kPage}.bytes_of({page});
}

AccessPlan one_page_a_step() {
  AccessPlan plan;
  for (std::uint32_t page = 0; page < kPages; ++page) plan.steps.push_back({{bytes_of(page)}});
  return plan;
}

/// Pinned host memory that holds the image.
class PinnedImage final : public BackingStore {
 public:
  PinnedImage() {
    cudaHostAlloc(&data_, kImage.count, cudaHostAllocPortable);
    auto* const words = static_cast<std::uint32_t*>(data_);
    for (std::uint64_t i = 0; i < kImage.count / 4; ++i) words[i] = word(i);
  }
  ~PinnedImage() override { cudaFreeHost(data_); }

  Bytes size() const override { return kImage; }
  void read(Bytes offset, std::span<std::byte> out) const override {
    std::memcpy(out.data(), data() + offset.count, out.size());
  }
  const std::byte* data() const override { return static_cast<const std::byte*>(data_); }
  Bytes pinned(Bytes, Bytes size) const override { return size; }

 private:
  void* data_ = nullptr;
};

/// A stream of the caller's, on the GPU that is selected when it is made.
class CallersStream {
 public:
  explicit CallersStream(unsigned flags = cudaStreamNonBlocking) {
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, flags), cudaSuccess);
  }
  ~CallersStream() { cudaStreamDestroy(stream_); }
  CallersStream(const CallersStream&) = delete;
  CallersStream& operator=(const CallersStream&) = delete;

  cudaStream_t get() const { return stream_; }
  StreamRef ref() const { return {stream_}; }

 private:
  cudaStream_t stream_ = nullptr;
};

class CudaBoundary : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU on this machine";
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    image_ = std::make_shared<PinnedImage>();
    ASSERT_EQ(cudaMalloc(&wrong_, sizeof *wrong_), cudaSuccess);
    ASSERT_EQ(cudaMemset(wrong_, 0, sizeof *wrong_), cudaSuccess);
    // A kernel's code is loaded at its first launch, which no capture survives.
    count_wrong<<<1, 32>>>(nullptr, 0, 0, wrong_);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    file_ =
        directory_.write("image", {reinterpret_cast<const char*>(image_->data()), kImage.count});
  }
  void TearDown() override {
    cudaSetDevice(0);
    cudaFree(wrong_);
    image_.reset();
  }

  std::unique_ptr<Pager> make(std::uint32_t frames, int gpu = 0) const {
    auto pager = std::make_unique<Pager>(make_cuda_device({.gpu = gpu}), image_,
                                         PagerOptions{.arena = kPage * frames, .page = kPage});
    pager->set_plan(one_page_a_step());
    return pager;
  }

  void check_page(const Pager& pager, std::uint32_t page, cudaStream_t stream) const {
    const ByteRange bytes = bytes_of(page);
    count_wrong<<<16, 256, 0, stream>>>(
        reinterpret_cast<const std::uint32_t*>(pager.address(bytes.offset)), bytes.offset.count / 4,
        bytes.size.count / 4, wrong_);
  }
  unsigned long long wrong() const {
    unsigned long long count = ~0ULL;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(&count, wrong_, sizeof count, cudaMemcpyDeviceToHost), cudaSuccess);
    return count;
  }

  /// Goes through every entry point that calls CUDA, with the caller's stream on `gpu`, and calls
  /// `check` with the name of each when it has returned.
  void use_everything(int gpu, StreamRef stream,
                      const std::function<void(const char*)>& check) const;

  std::shared_ptr<PinnedImage> image_;
  unsigned long long* wrong_ = nullptr;
  tests::TemporaryDirectory directory_;
  std::filesystem::path file_;
};

void CudaBoundary::use_everything(int gpu, StreamRef stream,
                                  const std::function<void(const char*)>& check) const {
  cuda_device_count();
  check("cuda_device_count");
  cuda_free_memory(gpu);
  check("cuda_free_memory");
  std::unique_ptr<Pager> pager;
  {
    PinnedStore copy = make_pinned_store({file_}, {.gpu = gpu, .pin_files = false});
    check("make_pinned_store of a copy");
  }
  check("the end of a pinned copy");
  {
    const PinnedStore pinned = make_pinned_store({file_}, {.gpu = gpu});
    check("make_pinned_store");
    auto device = make_cuda_device({.gpu = gpu});
    check("make_cuda_device");
    pager = std::make_unique<Pager>(std::move(device), pinned.store,
                                    PagerOptions{.arena = kPage * 3, .page = kPage});
    check("Pager");
  }
  pager->set_plan(one_page_a_step());
  check("set_plan");
  {
    const DeviceBuffer buffer = pager->device().allocate(MiB(1));
    check("allocate");
  }
  check("the end of a buffer");
  EXPECT_THROW(pager->device().allocate(GiB(1 << 20)), DeviceError);
  check("allocate of too much");
  for (std::uint32_t step = 0; step < 2 * kPages; ++step) {
    Lease lease = pager->acquire(StepIndex{step % kPages}, {}, stream);
    check("acquire");
    lease.release();
    check("release");
  }
  pager->settle();
  check("settle");
  pager->set_arena(kPage * 5);
  check("set_arena");
  pager->evict_all();
  check("evict_all");
  pager->statistics();
  check("statistics");
  pager.reset();
  check("the end of the pager");
}

TEST_F(CudaBoundary, CallersDeviceIsWhatItWas) {
  if (cuda_device_count() < 2) GTEST_SKIP() << "needs two GPUs";
  for (const int gpu : {0, 1}) {
    ASSERT_EQ(cudaSetDevice(gpu), cudaSuccess);
    const CallersStream stream;
    for (const int selected : {1, 0}) {
      ASSERT_EQ(cudaSetDevice(selected), cudaSuccess);
      use_everything(gpu, stream.ref(), [&](const char* call) {
        int device = -1;
        EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
        EXPECT_EQ(device, selected) << call;
      });
    }
  }
}

TEST_F(CudaBoundary, ThreadWithoutAContextStaysWithout) {
  // Asked of the driver: the runtime would make a context for an answer.
  void* const driver = ::dlopen("libcuda.so.1", RTLD_NOW);
  ASSERT_NE(driver, nullptr);
  const auto get_current =
      reinterpret_cast<decltype(&cuCtxGetCurrent)>(::dlsym(driver, "cuCtxGetCurrent"));
  ASSERT_NE(get_current, nullptr);
  const CallersStream stream;
  std::thread([&] {
    use_everything(0, stream.ref(), [&](const char* call) {
      CUcontext context = nullptr;
      EXPECT_EQ(get_current(&context), CUDA_SUCCESS) << call;
      EXPECT_EQ(context, nullptr) << call;
    });
  }).join();
}

TEST_F(CudaBoundary, CallersLastErrorIsWhatItWas) {
  const CallersStream stream;
  use_everything(0, stream.ref(),
                 [&](const char* call) { EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << call; });
  ASSERT_EQ(cudaSetDevice(1 << 20), cudaErrorInvalidDevice);
  use_everything(0, stream.ref(), [&](const char* call) {
    EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidDevice) << call;
  });
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
}

/// Walks through the image in a thread of its own, so that copies are always under way.
class Walker {
 public:
  explicit Walker(Pager& pager) : thread_([this, &pager] { walk(pager); }) {}
  ~Walker() {
    stop_ = true;
    thread_.join();
  }
  void wait_for(std::uint64_t more) const {
    for (const std::uint64_t until = steps_ + more; steps_ < until;) std::this_thread::yield();
  }

 private:
  void walk(Pager& pager) {
    while (!stop_) {
      pager.acquire(StepIndex{static_cast<std::uint32_t>(steps_ % kPages)}, {}, stream_.ref());
      ++steps_;
    }
  }

  CallersStream stream_;
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint64_t> steps_ = 0;
  std::thread thread_;
};

class Graph {
 public:
  /// What `queue` puts into the stream. `captured` says whether capturing went well.
  Graph(cudaStream_t stream, const std::function<void()>& queue) {
    EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    queue();
    result_ = cudaStreamEndCapture(stream, &graph_);
    if (captured()) result_ = cudaGraphInstantiate(&executable_, graph_, 0);
  }
  ~Graph() {
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  bool captured() const { return result_ == cudaSuccess; }
  void launch(cudaStream_t stream) const {
    EXPECT_EQ(cudaGraphLaunch(executable_, stream), cudaSuccess);
  }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
  cudaError_t result_ = cudaSuccess;
};

TEST_F(CudaBoundary, GraphIsCapturedAndReplayedWhilePagesComeAndGo) {
  const auto pager = make(4);
  const CallersStream stream;
  const Walker walker(*pager);
  std::vector<std::unique_ptr<Graph>> graphs;
  for (std::uint32_t page = 0; page < kPages; ++page) {
    graphs.push_back(std::make_unique<Graph>(stream.get(), [&] {
      walker.wait_for(3);
      check_page(*pager, page, stream.get());
      walker.wait_for(3);
    }));
    ASSERT_TRUE(graphs.back()->captured()) << "graph " << page;
  }
  for (std::uint32_t i = 0; i < 10 * kPages; ++i) {
    const std::uint32_t page = i * 5 % kPages;
    const ByteRange bytes = bytes_of(page);
    const Lease lease = pager->acquire({&bytes, 1}, stream.ref());
    graphs[page]->launch(stream.get());
  }
  EXPECT_EQ(wrong(), 0U);
  EXPECT_GT(pager->statistics().core.evictions, kPages);
}

/// While a stream is captured, the calling thread can do everything that is not in this stream.
TEST_F(CudaBoundary, PagerIsMadeAndUsedInTheMiddleOfACapture) {
  const CallersStream captured;
  const CallersStream other;
  const Graph graph(captured.get(), [&] {
    use_everything(0, other.ref(), [](const char*) {});
    cudaMemsetAsync(wrong_, 0, sizeof *wrong_, captured.get());
  });
  EXPECT_TRUE(graph.captured());
}

TEST_F(CudaBoundary, AcquireInACapturedStreamIsAnErrorAndTheCaptureGoesOn) {
  const auto pager = make(4);
  const auto acquire = [&](StreamRef stream) {
    try {
      pager->acquire(StepIndex{0}, {}, stream);
      ADD_FAILURE() << "pages were acquired in a stream that is being captured";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("acquire pages outside of the capture"));
    }
  };
  const CallersStream stream;
  const Graph graph(stream.get(), [&] {
    acquire(stream.ref());
    cudaMemsetAsync(wrong_, 0, sizeof *wrong_, stream.get());
  });
  EXPECT_TRUE(graph.captured());
  // The default stream waits for this one, and so has a part in its capture.
  const CallersStream blocking(cudaStreamDefault);
  const Graph second(blocking.get(), [&] {
    acquire({});
    cudaMemsetAsync(wrong_, 0, sizeof *wrong_, blocking.get());
  });
  EXPECT_TRUE(second.captured());
  const Lease lease = pager->acquire(StepIndex{0}, {}, stream.ref());
  check_page(*pager, 0, stream.get());
  EXPECT_EQ(wrong(), 0U);
}

TEST_F(CudaBoundary, StreamOfAnotherGpuIsRefused) {
  if (cuda_device_count() < 2) GTEST_SKIP() << "needs two GPUs";
  const auto pager = make(4);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  const CallersStream stream;
  try {
    pager->acquire(StepIndex{0}, {}, stream.ref());
    FAIL() << "a stream of another GPU was taken";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("belongs to GPU 1"));
  }
}

TEST_F(CudaBoundary, DefaultStreamsWork) {
  const auto pager = make(4);
  for (const cudaStream_t stream : {cudaStream_t{nullptr}, cudaStreamLegacy, cudaStreamPerThread}) {
    for (std::uint32_t step = 0; step < 2 * kPages; ++step) {
      const Lease lease = pager->acquire(StepIndex{step % kPages}, {}, {stream});
      check_page(*pager, step % kPages, stream);
    }
  }
  std::thread([&] {
    for (std::uint32_t step = 0; step < 2 * kPages; ++step) {
      const Lease lease = pager->acquire(StepIndex{step % kPages}, {}, {cudaStreamPerThread});
      check_page(*pager, step % kPages, cudaStreamPerThread);
    }
  }).join();
  EXPECT_EQ(wrong(), 0U);
}

TEST_F(CudaBoundary, EqualQueuesAreEqualHoweverTheyAreNamed) {
  const auto device = make_cuda_device();
  const StreamClock& clock = device->clock();
  EXPECT_EQ(clock.identify({}), clock.identify({cudaStreamLegacy}));
  EXPECT_EQ(clock.identify({cudaStreamPerThread}), clock.identify({cudaStreamPerThread}));
  StreamId elsewhere{};
  std::thread([&] { elsewhere = clock.identify({cudaStreamPerThread}); }).join();
  EXPECT_NE(elsewhere, clock.identify({cudaStreamPerThread}));
  EXPECT_NE(clock.identify({}), clock.identify({cudaStreamPerThread}));
  StreamId former{};
  {
    const CallersStream stream;
    former = clock.identify(stream.ref());
    EXPECT_EQ(former, clock.identify(stream.ref()));
  }
  const CallersStream stream;
  EXPECT_NE(former, clock.identify(stream.ref())) << "though the handle may be the same";
}

TEST_F(CudaBoundary, BuffersAreZeroForAStreamThatWaitsForNoOther) {
  constexpr std::size_t kSize = 64 << 20;
  const auto device = make_cuda_device();
  const CallersStream stream;
  std::byte* host = nullptr;
  ASSERT_EQ(cudaMallocHost(&host, kSize), cudaSuccess);
  for (int round = 0; round < 5; ++round) {
    void* dirty = nullptr;
    ASSERT_EQ(cudaMalloc(&dirty, kSize), cudaSuccess);
    ASSERT_EQ(cudaMemset(dirty, 0xab, kSize), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    ASSERT_EQ(cudaFree(dirty), cudaSuccess);
    const DeviceBuffer buffer = device->allocate({kSize});
    cudaMemcpyAsync(host, buffer.data(), kSize, cudaMemcpyDeviceToHost, stream.get());
    ASSERT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
    EXPECT_TRUE(std::all_of(host, host + kSize, [](std::byte b) { return b == std::byte{}; }));
  }
  cudaFreeHost(host);
}

Bytes free_on_gpu() {
  std::size_t free = 0;
  std::size_t total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  return {free};
}

TEST_F(CudaBoundary, ArenaShrinksAndGrowsUnderWorkAndEverythingIsReturned) {
  constexpr std::uint32_t kFrames = 6;
  make(kFrames).reset();  // what the driver keeps for good, it has then
  const Bytes free = free_on_gpu();
  {
    const auto pager = make(kFrames);
    const Bytes before = pager->device().memory().current;
    std::atomic<bool> stop = false;
    std::thread resizer([&] {
      std::mt19937 random(1);
      while (!stop) pager->set_arena(kPage * (1 + random() % kPages));
    });
    const CallersStream stream;
    for (std::uint32_t i = 0; i < 100 * kPages; ++i) {
      const Lease lease = pager->acquire(StepIndex{i % kPages}, {}, stream.ref());
      check_page(*pager, i % kPages, stream.get());
    }
    stop = true;
    resizer.join();
    EXPECT_EQ(wrong(), 0U);
    pager->set_arena(kPage * kFrames);
    EXPECT_EQ(pager->device().memory().current, before);
  }
  EXPECT_GE(free_on_gpu() + kPage, free);
}

/// Runs `child` in a forked process, which must end by itself, soon, with status 0.
void expect_child_ends_well(const std::function<int()>& child) {
  std::fflush(nullptr);
  const pid_t process = ::fork();
  ASSERT_GE(process, 0);
  if (process == 0) {
    ::signal(SIGSEGV, [](int) {  // where, for whoever reads this
      void* frames[64];
      ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), 2);
      ::_exit(77);
    });
    // Not through exit: the CUDA driver's own handlers crash there if the parent has captured a
    // stream before, whoever uses it.
    ::_exit(child());
  }
  int status = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (::waitpid(process, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      ::kill(process, SIGKILL);
      ::waitpid(process, &status, 0);
      FAIL() << "the child hangs";
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0) << "calls that threw no Error";
}

/// 1 if it throws no Error.
int missing_error(const char* name, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error&) {
    return 0;
  }
  std::fprintf(stderr, "%s threw no Error in a forked child\n", name);
  return 1;
}

TEST_F(CudaBoundary, ForkedChildGetsErrorsOfTheDeviceAndTheStore) {
  auto device = make_cuda_device();
  device->range().reserve({.image = kImage, .page = kPage});
  device->range().create_frame({0});
  const std::vector<FrameIndex> frame = {{0}};
  device->range().map({0}, frame);
  DeviceBuffer buffer = device->allocate(MiB(1));
  auto store = make_pinned_store({file_}).store;
  Subscription subscription = store->announce([](ByteRange) {});
  const CallersStream stream;
  device->clock().record(stream.ref());
  expect_child_ends_well([&] {
    int missing = 0;
    missing += missing_error("create_frame", [&] { device->range().create_frame({1}); });
    missing += missing_error("map", [&] { device->range().map({1}, frame); });
    missing += missing_error("copy", [&] { device->copies().copy(*image_, {{0}, 1}); });
    missing += missing_error("take_ended", [&] { device->copies().take_ended(); });
    missing += missing_error("identify", [&] { device->clock().identify(stream.ref()); });
    missing += missing_error("record", [&] { device->clock().record(stream.ref()); });
    missing += missing_error("take_passed", [&] { device->clock().take_passed(); });
    missing += missing_error("allocate", [&] { device->allocate(MiB(1)); });
    missing += missing_error("memory", [&] { device->memory(); });
    missing += missing_error("pinned", [&] { store->pinned({}, kPage); });
    missing += missing_error("announce", [&] { subscription = store->announce([](ByteRange) {}); });
    missing += missing_error("make_cuda_device", [] { make_cuda_device(); });
    missing += missing_error("make_pinned_store", [&] { make_pinned_store({file_}); });
    missing += cuda_device_count() == 0 ? 0 : 1;
    subscription.end();
    buffer = {};
    device.reset();
    store.reset();
    return missing;
  });
  // The parent goes on.
  device->copies().wait(stream.ref(), device->copies().copy(*store, {{0}, 1}));
  count_wrong<<<16, 256, 0, stream.get()>>>(
      reinterpret_cast<const std::uint32_t*>(device->range().base()), 0, kPage.count / 4, wrong_);
  EXPECT_EQ(wrong(), 0U);
}

TEST_F(CudaBoundary, ForkedChildGetsErrorsOfThePager) {
  auto pager = make(4);
  const CallersStream stream;
  pager->acquire(StepIndex{0}, {}, stream.ref());
  expect_child_ends_well([&] {
    int missing = 0;
    missing += missing_error("acquire", [&] { pager->acquire(StepIndex{0}, {}, stream.ref()); });
    missing += missing_error("set_plan", [&] { pager->set_plan(one_page_a_step()); });
    missing += missing_error("set_arena", [&] { pager->set_arena(kPage * 2); });
    missing += missing_error("settle", [&] { pager->settle(); });
    missing += missing_error("evict_all", [&] { pager->evict_all(); });
    pager.reset();
    return missing;
  });
  const Lease lease = pager->acquire(StepIndex{1}, {}, stream.ref());
  check_page(*pager, 1, stream.get());
  EXPECT_EQ(wrong(), 0U);
}

/// A device of which the tests below use the parts.
class CudaParts : public CudaBoundary {
 protected:
  void finish(CopyId copy) const {
    for (std::optional<EndedCopy> ended; !ended || ended->id != copy;) {
      ended = device_->copies().take_ended();
      if (ended && ended->failure) std::rethrow_exception(ended->failure);
    }
  }
  /// Whether the bytes at a page's address are those of page `of` of the image.
  bool holds(std::uint32_t page, std::uint32_t of, Bytes page_size = kPage) const {
    std::vector<std::byte> bytes(page_size.count);
    EXPECT_EQ(cudaMemcpy(bytes.data(), device_->range().base() + page_size.count * page,
                         bytes.size(), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return std::memcmp(bytes.data(), image_->data() + page_size.count * of, bytes.size()) == 0;
  }

  std::unique_ptr<Device> device_;
};

TEST_F(CudaParts, SeveralPagesAreMappedToOneFrame) {
  device_ = make_cuda_device();
  AddressRange& range = device_->range();
  range.reserve({.image = kImage, .page = kPage});
  range.create_frame({0});
  const std::vector<FrameIndex> both = {{0}, {0}};
  range.map({0}, both);
  finish(device_->copies().copy(*image_, {{0}, 1}));
  EXPECT_TRUE(holds(1, 0));
  finish(device_->copies().copy(*image_, {{1}, 1}));
  EXPECT_TRUE(holds(0, 1));
  range.unmap({0}, kPages);  // those that are mapped
  range.destroy_frame({0});
  EXPECT_EQ(device_->memory().current, Bytes{});
}

TEST_F(CudaParts, PagesNeedNotBeAPowerOfTwo) {
  constexpr Bytes kOddPage = kPage * 3;
  device_ = make_cuda_device();
  device_->range().reserve({.image = kImage, .page = kOddPage});
  device_->range().create_frame({0});
  const std::vector<FrameIndex> frame = {{0}};
  device_->range().map({1}, frame);
  finish(device_->copies().copy(*image_, {{1}, 1}));
  EXPECT_TRUE(holds(1, 1, kOddPage));
}

TEST_F(CudaParts, FrameThatIsRefusedLeavesEverythingAsItWas) {
  device_ = make_cuda_device();
  std::size_t free = 0;
  std::size_t total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  const Bytes huge = round_up(Bytes{total} * 2, kPage);
  device_->range().reserve({.image = huge, .page = huge});
  try {
    device_->range().create_frame({0});
    FAIL() << "the GPU took a frame larger than its memory";
  } catch (const DeviceError& error) {
    EXPECT_THAT(error.what(), HasSubstr(to_string(Bytes{total}) + " free; give the arena less"));
  }
  EXPECT_EQ(device_->memory().peak, Bytes{});
}

/// Fails to deliver whatever it is asked for.
class BadStore final : public BackingStore {
 public:
  Bytes size() const override { return kImage; }
  void read(Bytes, std::span<std::byte>) const override { throw StoreError("bad sector"); }
};

TEST_F(CudaParts, CopyThatFailsEndsAfterThoseBeforeItAndIsNoException) {
  device_ = make_cuda_device();
  device_->range().reserve({.image = kImage, .page = kPage});
  device_->range().create_frame({0});
  const std::vector<FrameIndex> frame = {{0}};
  device_->range().map({0}, frame);
  const BadStore bad;
  const CopyId good = device_->copies().copy(*image_, {{0}, 1});
  const CopyId failed = device_->copies().copy(bad, {{0}, 1});
  const CallersStream stream;
  device_->copies().wait(stream.ref(), failed);
  finish(good);
  EXPECT_THROW(finish(failed), StoreError);
  device_->copies().wait(stream.ref(), failed);  // has ended: nothing to wait for
  EXPECT_EQ(device_->link().copied, kPage);
}

TEST_F(CudaParts, FencesAndStampsAreAnnounced) {
  device_ = make_cuda_device();
  std::atomic<int> announced = 0;
  device_->on_progress([&] { ++announced; });
  const CallersStream stream;
  const Trace::Time before = Trace::Clock::now();
  const StampId stamp = device_->clock().stamp(stream.ref());
  while (announced == 0) std::this_thread::yield();
  const std::optional<Trace::Time> at = device_->clock().take_stamp(stamp);
  ASSERT_TRUE(at.has_value());
  EXPECT_GE(*at, before - std::chrono::milliseconds(1));
  EXPECT_LE(*at, Trace::Clock::now());
  EXPECT_FALSE(device_->clock().take_stamp(stamp).has_value()) << "it is taken once";
  announced = 0;
  const std::optional<FenceId> fence = device_->clock().record(stream.ref());
  ASSERT_TRUE(fence.has_value());
  while (announced == 0) std::this_thread::yield();
  EXPECT_EQ(device_->clock().take_passed(), std::vector<FenceId>{*fence});
  device_->on_progress({});
}

}  // namespace
}  // namespace tensor_pager::testing
