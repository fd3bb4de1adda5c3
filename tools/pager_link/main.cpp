// SPDX-License-Identifier: Apache-2.0
// pager_link: how full the pager alone keeps the link to a GPU, or to several at once. Reads a
// whole file through arenas of several sizes, with no kernels, beside the best pinned copy of the
// same run.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "command_line/checks.hpp"
#include "command_line/left_out.hpp"
#include "command_line/parser.hpp"
#include "command_line/progress_bar.hpp"
#include "command_line/run_program.hpp"
#include "pager/cuda_device.hpp"
#include "pager/pager.hpp"
#include "pager/pinned_store.hpp"

namespace tensor_pager {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void require(cudaError_t error, const char* call) {
  if (error != cudaSuccess)
    throw DeviceError(fmt::format("{} failed: {}", call, cudaGetErrorString(error)));
}

struct Options {
  std::string file;
  std::vector<int> gpus = {0};
  std::vector<double> arenas = {5, 25, 50};
  std::uint64_t page_mib = 16;
  std::uint32_t depth = kWholeSteps;
  int passes = 3;
  bool copy = false;
  bool quiet = false;
};

/// Runs `body` on a thread for each of 0 ... count - 1, and throws what the first of them threw.
void on_threads(std::size_t count, const std::function<void(std::size_t)>& body) {
  std::vector<std::exception_ptr> failures(count);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < count; ++i) {
      threads.emplace_back([&, i] {
        try {
          body(i);
        } catch (...) {
          failures[i] = std::current_exception();
        }
      });
    }
  }
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

/// GPU memory, events and a stream for bare copies.
class Copies {
 public:
  Copies(int gpu, std::size_t size) : size_(size) {
    require(cudaSetDevice(gpu), "cudaSetDevice");
    require(cudaMalloc(&device_, size), "cudaMalloc");
    require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    require(cudaEventCreate(&begin_), "cudaEventCreate");
    require(cudaEventCreate(&end_), "cudaEventCreate");
  }
  ~Copies() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
    cudaFree(device_);
  }
  Copies(const Copies&) = delete;
  Copies& operator=(const Copies&) = delete;

  void begin() { require(cudaEventRecord(begin_, stream_), "cudaEventRecord"); }
  void copy(const void* host, std::size_t size) {
    require(cudaMemcpyAsync(device_, host, std::min(size, size_), cudaMemcpyHostToDevice, stream_),
            "cudaMemcpyAsync");
  }
  double end_in_seconds() {
    require(cudaEventRecord(end_, stream_), "cudaEventRecord");
    require(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  std::size_t size_;
  void* device_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

/// The best rate, in bytes per second, of pinned host-to-device copies of 64 MiB, one at a time in
/// a stream.
double best_copy_rate(int gpu) {
  constexpr std::size_t kSize = 64 << 20;
  Copies copies(gpu, kSize);
  void* host = nullptr;
  require(cudaMallocHost(&host, kSize), "cudaMallocHost");
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    copies.begin();
    copies.copy(host, kSize);
    best = std::max(best, static_cast<double>(kSize) / copies.end_in_seconds());
  }
  cudaFreeHost(host);
  return best;
}

/// The rate, in bytes per second, of bare copies of the whole image, page after page, back to back:
/// what is left of the best when copies are as many and as large as the pager's.
double copy_rate(Copies& copies, const BackingStore& store, Bytes page) {
  copies.begin();
  for (Bytes at; at < store.size();) {
    const Bytes size = store.pinned(at, std::min(page, store.size() - at));
    if (size == Bytes{})
      throw Error("the file is not pinned, so there is no link to measure; try --copy");
    copies.copy(store.data() + at.count, size.count);
    at = at + size;
  }
  return static_cast<double>(store.size().count) / copies.end_in_seconds();
}

/// The better of two passes, as the first after pinning may be slower.
double bare_copy_rate(int gpu, const BackingStore& store, Bytes page) {
  Copies copies(gpu, page.count);
  const double first = copy_rate(copies, store, page);
  return std::max(first, copy_rate(copies, store, page));
}

/// The whole image, in steps of 64 MiB.
AccessPlan walk(Bytes image) {
  AccessPlan plan;
  for (Bytes at; at < image; at += MiB(64))
    plan.steps.push_back({.reads = {{at, std::min(MiB(64), image - at)}}});
  return plan;
}

/// The share of time without a copy, from `skip` after the first copy's begin to the last one's
/// end.
double gap_share(std::vector<std::pair<Trace::Time, Trace::Time>> spans,
                 std::chrono::milliseconds skip) {
  if (spans.empty()) return 0;
  const Trace::Time from = spans.front().first + skip;
  Trace::Time at = from;
  std::chrono::nanoseconds gaps{};
  for (const auto& [begin, end] : spans) {
    if (begin > at) gaps += begin - at;
    at = std::max(at, end);
  }
  return std::chrono::duration<double>(gaps) / std::chrono::duration<double>(at - from);
}

/// A pager on one GPU, and the walk through the file that is timed.
class Walk {
 public:
  Walk(const Options& options, int gpu, std::shared_ptr<const BackingStore> store, double percent)
      : options_(options),
        gpu_(gpu),
        percent_(percent),
        image_(store->size()),
        pager_(make_cuda_device({.gpu = gpu, .link_bytes_per_second = 0, .trace = &trace_}),
               std::move(store),
               {.arena = Bytes{static_cast<std::uint64_t>(static_cast<double>(image_.count) *
                                                          percent / 100)},
                .page = MiB(options.page_mib),
                .policy = {.window = kWholePass, .prefetch_depth = options.depth}}) {}

  void run() {
    require(cudaSetDevice(gpu_), "cudaSetDevice");
    cudaStream_t stream = nullptr;
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    const AccessPlan plan = walk(image_);
    const std::size_t steps = plan.steps.size() * static_cast<std::size_t>(options_.passes);
    std::size_t done = 0;
    const double copies = static_cast<double>(image_.count) * options_.passes / 1e9;
    const bool shown = !options_.quiet && gpu_ == options_.gpus.front();
    command_line::ProgressBar bar(shown, fmt::format("{:.0f}%", percent_), copies, "GB");
    const auto begin = Clock::now();
    pager_.set_plan(plan);
    for (int pass = 0; pass < options_.passes; ++pass) {
      for (std::uint32_t step = 0; step < plan.steps.size(); ++step) {
        pager_.acquire(StepIndex{step}, {}, {stream});
        bar.update(++done, steps);
      }
    }
    bar.clear();
    require(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    seconds_ = seconds_since(begin);
    require(cudaStreamDestroy(stream), "cudaStreamDestroy");
    copied_ = trace_.spans(Trace::Track::copies);
    if (copied_.empty()) throw Error("the arena holds all of the file, and nothing was copied");
    mapping_ = std::chrono::duration<double>(copied_.front().first - begin).count();
  }

  /// `best` and `bare`: bytes per second without a pager.
  void print(double best, double bare) const {
    const Statistics statistics = pager_.statistics();
    const double rate = static_cast<double>(statistics.link.copied.count) / (seconds_ - mapping_);
    fmt::print(
        "| {} | {:.0f}% ({}) | {} | {:.2f} | {:.2f} | {:.1f} | {:.1f}% | {:.1f}% | {:.2f}% | {} | "
        "{} | {:.0f} |\n",
        gpu_, percent_, to_string(statistics.arena), options_.passes,
        static_cast<double>(statistics.link.copied.count) / 1e9,
        static_cast<double>(statistics.core.optimal.count) / 1e9, rate / 1e9, 100 * rate / best,
        100 * rate / bare, 100 * gap_share(copied_, std::chrono::milliseconds(10)),
        statistics.core.remaps, statistics.core.evictions, 1e3 * mapping_);
  }

 private:
  const Options& options_;
  int gpu_;
  double percent_;
  Bytes image_;
  Trace trace_;
  Pager pager_;
  double seconds_ = 0;
  double mapping_ = 0;  // of these, before the first copy: all pages, once for all passes
  std::vector<std::pair<Trace::Time, Trace::Time>> copied_;
};

/// All GPUs at the same time, each with a pager of its own on the same store.
void measure(const Options& options, const std::shared_ptr<const BackingStore>& store,
             double percent, const std::vector<double>& best) {
  const std::size_t count = options.gpus.size();
  std::vector<std::unique_ptr<Walk>> walks;
  for (const int gpu : options.gpus)
    walks.push_back(std::make_unique<Walk>(options, gpu, store, percent));
  std::vector<double> bare(count);
  std::barrier together(static_cast<std::ptrdiff_t>(count));
  on_threads(count, [&](std::size_t i) {
    together.arrive_and_wait();
    bare[i] = bare_copy_rate(options.gpus[i], *store, MiB(options.page_mib));
    together.arrive_and_wait();
    walks[i]->run();
  });
  for (std::size_t i = 0; i < count; ++i) walks[i]->print(best[i], bare[i]);
}

void wait_until_pinned(const Options& options, const BackingStore& store) {
  const std::uint64_t size = store.size().count;
  std::atomic<std::uint64_t> ready = 0;
  const Subscription subscription =
      store.announce([&](ByteRange range) { ready += range.size.count; });
  command_line::ProgressBar bar(!options.quiet, "pinning", static_cast<double>(size) / 1e9, "GB");
  while (ready != size) {
    bar.update(ready, size);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void run(const Options& options) {
  const auto begin = Clock::now();
  const PinnedStore pinned = make_pinned_store({options.file}, {.pin_files = !options.copy});
  const double first = seconds_since(begin);
  wait_until_pinned(options, *pinned.store);
  fmt::print("{}: {}, {}; first piece after {:.3f} s, all after {:.3f} s\n", options.file,
             to_string(pinned.store->size()), pinned.description, first, seconds_since(begin));
  std::vector<double> best;
  for (const int gpu : options.gpus) {
    best.push_back(best_copy_rate(gpu));
    fmt::print("GPU {}: best 64 MiB pinned copy {:.1f} GB/s\n", gpu, best.back() / 1e9);
  }
  fmt::print(
      "pages of {} MiB\n\n| GPU | arena | passes | copied GB | optimal GB | GB/s | of best | of "
      "bare | gaps after 10 ms | remaps | evictions | mapped in ms "
      "|\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
      options.page_mib);
  command_line::LeftOut left_out("pager_link", options.arenas.size());
  for (const double percent : options.arenas) {
    try {
      measure(options, pinned.store, percent, best);
    } catch (const DeviceError&) {
      throw;
    } catch (const Error& error) {  // nothing is copied, or no step fits
      left_out.add(fmt::format("an arena of {:g}%", percent), error);
    }
  }
  left_out.require_some();
}

Options parse_options(int argc, const char* const* argv) {
  Options options;
  command_line::Parser parser({
      .name = "pager_link",
      .purpose = "Reads a file through arenas of GPU memory, and prints how full its link was, or "
                 "their links.",
      .usage = "FILE [OPTION...]",
      .examples = {"model.gguf", "model.gguf --arena 10,50 --page 32 --passes 5",
                   "model.gguf --gpu 0,1"},
  });
  parser.group("Arguments")
      .add_option("FILE", options.file, "Any large file")
      ->required()
      ->type_name("FILE");
  CLI::App& app = parser.group("Options");
  app.add_option("--gpu", options.gpus, "GPUs, by CUDA ordinal, at the same time")
      ->delimiter(',')
      ->check(command_line::not_negative())
      ->capture_default_str()
      ->type_name("N,...");
  app.add_option("--arena", options.arenas, "Arenas, in percent of the file")
      ->delimiter(',')
      ->check(command_line::positive())
      ->capture_default_str()
      ->type_name("PCT,...");
  app.add_option("--page", options.page_mib, "MiB per page")
      ->check(command_line::positive())
      ->capture_default_str()
      ->type_name("MIB");
  app.add_option("--depth", options.depth, "Pages that are loaded ahead of need")
      ->default_str("as many as the largest step has")
      ->type_name("N");
  app.add_option("--passes", options.passes, "Passes over the file")
      ->check(command_line::positive())
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--copy", options.copy, "Copy the file to pinned memory instead of pinning it");
  app.add_flag("-q,--quiet", options.quiet, "No progress bar");
  parser.parse(argc, argv);
  return options;
}

}  // namespace
}  // namespace tensor_pager

int main(int argc, char** argv) {
  using namespace tensor_pager;
  return command_line::run_program("pager_link", [&] { run(parse_options(argc, argv)); });
}
