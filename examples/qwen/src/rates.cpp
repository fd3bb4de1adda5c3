// SPDX-License-Identifier: Apache-2.0
#include "qwen/rates.hpp"

#include <tbb/blocked_range.h>
#include <tbb/parallel_reduce.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <semaphore>
#include <thread>
#include <vector>

#include "kernels/matmul.hpp"
#include "pager/host_device.hpp"
#include "pager/pager.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

using Clock = std::chrono::steady_clock;

double best_seconds(int runs, const std::function<void()>& work) {
  work();  // the first time memory is touched
  double best = 1e9;
  for (int i = 0; i < runs; ++i) {
    const auto begin = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

// Of all threads together.
double measure_host_memory() {
  constexpr std::size_t kWords = std::size_t{16} << 20;  // 128 MiB, more than caches hold
  const std::vector<std::uint64_t> words(kWords, 1);
  std::uint64_t sum = 0;
  const double seconds = best_seconds(3, [&] {
    sum += tbb::parallel_reduce(
        tbb::blocked_range<std::size_t>(0, kWords, std::size_t{1} << 16), std::uint64_t{0},
        [&](const tbb::blocked_range<std::size_t>& range, std::uint64_t part) {
          for (std::size_t i = range.begin(); i < range.end(); ++i) part += words[i];
          return part;
        },
        std::plus<>());
  });
  // Used, so that it is computed.
  return sum > 0 ? static_cast<double>(kWords * sizeof(std::uint64_t)) / seconds : 0;
}

double difference(double a, double b) {
  return std::max(a, b) > 0 ? 1 - std::min(a, b) / std::max(a, b) : 0;
}

double measure_host_products(kernels::WeightType type) {
  constexpr std::size_t kRows = 1024;
  constexpr std::size_t kTokens = 256;
  const std::vector<float> w(kRows * kRows);  // zeros are valid weights of any type, and no faster
  const std::vector<float> x(kTokens * kRows, 0.25F);
  std::vector<float> y(kTokens * kRows);
  const kernels::Weights weights{type, reinterpret_cast<const std::byte*>(w.data()), kRows, kRows};
  return 2.0 * kRows * kRows * kTokens / best_seconds(5, [&] {
           kernels::cpu::matmul(weights, {x.data(), kTokens, kRows}, {y.data(), kTokens, kRows});
         });
}

}  // namespace

MachineRates measure_host_rates() {
  constexpr std::size_t kCopy = std::size_t{64} << 20;
  const std::vector<std::byte> from(kCopy, std::byte{1});
  std::vector<std::byte> to(kCopy);
  MachineRates rates;
  rates.link = static_cast<double>(kCopy) /
               best_seconds(3, [&] { std::memcpy(to.data(), from.data(), kCopy); });
  rates.memory = measure_host_memory();
  rates.cache = static_cast<double>(std::max(::sysconf(_SC_LEVEL3_CACHE_SIZE), 0L));

  // Codes are multiplied as integers, of which a processor may do more at a time.
  rates.arithmetic = std::max(measure_host_products(kernels::WeightType::f32),
                              measure_host_products(kernels::WeightType::q4_k));
  return rates;
}

namespace {

/// Copies pages of a store over and over, as a pager on the host device does, until it is told to
/// stop. A few frames take all pages in turn, so that what is read comes from memory.
class RepeatedCopies {
 public:
  explicit RepeatedCopies(const BackingStore& store) : store_(store), device_(make_host_device()) {
    const PageLayout layout{store.size(),
                            default_page_size(store.size(), device_->info().page_granularity)};
    pages_ = layout.page_count();
    device_->range().reserve(layout);
    const std::uint32_t frames = std::min(pages_, kFrames);
    for (std::uint32_t i = 0; i < frames; ++i) device_->range().create_frame(FrameIndex{i});
    std::vector<FrameIndex> taken;
    for (std::uint32_t i = 0; i < pages_; ++i) taken.push_back(FrameIndex{i % frames});
    device_->range().map(PageIndex{0}, taken);
    device_->on_progress([this] { ended_.release(); });
    touch(frames);
    begin_ = Clock::now();
    before_ = device_->link().copied;
    thread_ = std::thread([this] { run(); });
  }
  ~RepeatedCopies() { stop(); }
  RepeatedCopies(const RepeatedCopies&) = delete;
  RepeatedCopies& operator=(const RepeatedCopies&) = delete;

  /// Bytes per second so far.
  double stop() {
    if (!thread_.joinable()) return 0;
    const double rate = static_cast<double>((device_->link().copied - before_).count) /
                        std::chrono::duration<double>(Clock::now() - begin_).count();
    done_ = true;
    thread_.join();
    return rate;
  }

 private:
  static constexpr std::uint32_t kFrames = 16;
  static constexpr int kQueued = 4;

  // The system gives frames their memory when they are first written.
  void touch(std::uint32_t frames) {
    device_->copies().copy(store_, {PageIndex{0}, frames});
    while (!device_->copies().take_ended()) ended_.acquire();
  }
  void run() {
    std::uint32_t next = 0;
    for (int i = 0; i < kQueued; ++i) start(next);
    for (int left = kQueued; left > 0;) {
      ended_.acquire();
      while (const std::optional<EndedCopy> ended = device_->copies().take_ended()) {
        // What cannot be read is the run's to report.
        if (done_ || ended->failure) {
          --left;
        } else {
          start(next);
        }
      }
    }
  }
  void start(std::uint32_t& next) {
    device_->copies().copy(store_, {PageIndex{next}, 1});
    next = (next + 1) % pages_;
  }

  const BackingStore& store_;
  std::uint32_t pages_ = 0;
  std::counting_semaphore<> ended_{0};
  const std::unique_ptr<Device> device_;  // calls back until it is gone
  Clock::time_point begin_;
  Bytes before_;
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

}  // namespace

double measure_copies_beside(const BackingStore& store, const std::function<void()>& work) {
  RepeatedCopies copies(store);
  work();
  return copies.stop();
}

MachineRates best_of(const MachineRates& a, const MachineRates& b) {
  return {.link = std::max(a.link, b.link),
          .memory = std::max(a.memory, b.memory),
          .arithmetic = std::max(a.arithmetic, b.arithmetic),
          .cache = std::max(a.cache, b.cache)};
}

double disagreement(const MachineRates& a, const MachineRates& b) {
  return std::max({difference(a.link, b.link), difference(a.memory, b.memory),
                   difference(a.arithmetic, b.arithmetic)});
}

double step_operations(const loaders::Graph& graph, const loaders::Step& step, const PassSize& size,
                       std::uint32_t ubatch, std::size_t past) {
  if (step.op == loaders::Op::output) return step.flops_per_token * size.wanted;
  const std::size_t first = std::size_t{ubatch} * size.ubatch;
  const auto tokens = static_cast<double>(std::min<std::size_t>(size.ubatch, size.tokens - first));
  double operations = step.flops_per_token * tokens;
  if (step.op == loaders::Op::attention_output && step.first_slice) {
    const double keys = tokens * static_cast<double>(past + first) + tokens * (tokens + 1) / 2;
    operations +=
        4 * keys * graph.config.layers.at(step.layer).head_count * graph.config.key_length;
  }
  return operations;
}

double pass_operations(const loaders::Graph& graph, const PassSize& size, std::size_t past) {
  const std::uint32_t ubatches = (size.tokens + size.ubatch - 1) / size.ubatch;
  double operations = 0;
  for (const loaders::ScheduledStep& entry : loaders::schedule(graph, ubatches)) {
    operations += step_operations(graph, graph.steps[entry.step], size, entry.ubatch, past);
  }
  return operations;
}

double step_weight_bytes(const loaders::Step& step) {
  double bytes = 0;
  for (const loaders::WeightSlice& slice : step.weights) {
    bytes += static_cast<double>(slice.bytes.size.count);
  }
  return bytes;
}

double pass_weight_bytes(const loaders::Graph& graph, const PassSize& size) {
  const std::uint32_t ubatches = (size.tokens + size.ubatch - 1) / size.ubatch;
  double bytes = 0;
  for (const loaders::ScheduledStep& entry : loaders::schedule(graph, ubatches)) {
    bytes += step_weight_bytes(graph.steps[entry.step]);
  }
  return bytes;
}

#ifndef TENSOR_PAGER_CUDA
MachineRates measure_cuda_rates(int /*gpu*/) {
  throw Error("no GPU was found: this build has no CUDA; use --device host");
}
double measure_link_beside(int gpu, const BackingStore& /*store*/,
                           const std::function<void()>& /*work*/) {
  return measure_cuda_rates(gpu).link;
}
std::optional<std::string> gpu_address(int /*gpu*/) {
  return std::nullopt;
}
std::uint32_t most_few_tokens() {
  return 0;
}
#endif

}  // namespace tensor_pager::qwen
