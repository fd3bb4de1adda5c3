// pager_link: how full the pager alone keeps the link to a GPU. Reads a whole file through arenas
// of several sizes, with no kernels, beside the best pinned copy of the same run.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
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
  std::vector<double> arenas = {5, 25, 50};
  std::uint64_t page_mib = 16;
  std::uint32_t depth = kWholeSteps;
  int passes = 3;
  bool copy = false;
  bool quiet = false;
};

/// The best rate, in bytes per second, of pinned host-to-device copies of 64 MiB, one at a time in
/// a stream.
double best_copy_rate() {
  constexpr std::size_t kSize = 64 << 20;
  void* host = nullptr;
  void* device = nullptr;
  require(cudaMallocHost(&host, kSize), "cudaMallocHost");
  require(cudaMalloc(&device, kSize), "cudaMalloc");
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  require(cudaEventCreate(&begin), "cudaEventCreate");
  require(cudaEventCreate(&end), "cudaEventCreate");
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    cudaEventRecord(begin);
    require(cudaMemcpyAsync(device, host, kSize, cudaMemcpyHostToDevice), "cudaMemcpyAsync");
    cudaEventRecord(end);
    require(cudaEventSynchronize(end), "cudaEventSynchronize");
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, begin, end);
    best = std::max(best, static_cast<double>(kSize) / (1e-3 * static_cast<double>(milliseconds)));
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaFree(device);
  cudaFreeHost(host);
  return best;
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

void measure(const Options& options, const std::shared_ptr<const BackingStore>& store,
             double percent, double best) {
  Trace trace;
  const Bytes page = MiB(options.page_mib);
  const Bytes arena{
      static_cast<std::uint64_t>(static_cast<double>(store->size().count) * percent / 100)};
  Pager pager(make_cuda_device({.gpu = 0, .link_bytes_per_second = 0, .trace = &trace}), store,
              {.arena = arena,
               .page = page,
               .policy = {.window = kWholePass, .prefetch_depth = options.depth}});
  cudaStream_t stream = nullptr;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  const AccessPlan plan = walk(store->size());
  const std::size_t steps = plan.steps.size() * static_cast<std::size_t>(options.passes);
  std::size_t done = 0;
  const double copies = static_cast<double>(store->size().count) * options.passes / 1e9;
  command_line::ProgressBar bar(!options.quiet, fmt::format("{:.0f}%", percent), copies, "GB");
  const auto begin = Clock::now();
  pager.set_plan(plan);
  for (int pass = 0; pass < options.passes; ++pass) {
    for (std::uint32_t step = 0; step < plan.steps.size(); ++step) {
      pager.acquire(StepIndex{step}, {}, {stream});
      bar.update(++done, steps);
    }
  }
  bar.clear();
  require(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  const auto copied = trace.spans(Trace::Track::copies);
  if (copied.empty()) throw Error("the arena holds all of the file, and nothing was copied");
  // Before the first copy all pages are mapped, once for all passes.
  const double mapping = std::chrono::duration<double>(copied.front().first - begin).count();
  const double seconds = seconds_since(begin) - mapping;
  const Statistics statistics = pager.statistics();
  require(cudaStreamDestroy(stream), "cudaStreamDestroy");
  const double rate = static_cast<double>(statistics.link.copied.count) / seconds;
  fmt::print(
      "| {:.0f}% ({}) | {} | {:.2f} | {:.2f} | {:.1f} | {:.1f}% | {:.2f}% | {} | {} | {:.0f} |\n",
      percent, to_string(statistics.arena), options.passes,
      static_cast<double>(statistics.link.copied.count) / 1e9,
      static_cast<double>(statistics.core.optimal.count) / 1e9, rate / 1e9, 100 * rate / best,
      100 * gap_share(copied, std::chrono::milliseconds(10)), statistics.core.remaps,
      statistics.core.evictions, 1e3 * mapping);
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
  const double best = best_copy_rate();
  fmt::print("best 64 MiB pinned copy: {:.1f} GB/s; pages of {} MiB\n\n", best / 1e9,
             options.page_mib);
  fmt::print(
      "| arena | passes | copied GB | optimal GB | GB/s | of best | gaps after 10 ms | remaps | "
      "evictions | mapped in ms |\n");
  fmt::print("|---|---|---|---|---|---|---|---|---|---|\n");
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
      .purpose =
          "Reads a file through arenas of GPU memory, with no kernels, and prints how full the "
          "link was.",
      .usage = "FILE [OPTION...]",
      .examples = {"model.gguf", "model.gguf --arena 10,50 --page 32 --passes 5"},
  });
  parser.group("Arguments")
      .add_option("FILE", options.file, "Any large file")
      ->required()
      ->type_name("FILE");
  CLI::App& app = parser.group("Options");
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
