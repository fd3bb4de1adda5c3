// pager_bench: prefill and generation of a paged model, measured against what the machine allows.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#include "benchmark.hpp"
#include "command_line/progress_bar.hpp"
#include "options.hpp"
#include "report.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::pager_bench;

constexpr int kFailure = 1;
constexpr int kWrongUsage = 2;

int fail(int status, std::string message) {
  std::ranges::replace(message, '\n', ' ');  // one line, whatever a library says
  fmt::print(stderr, "pager_bench: {}\n", message);
  return status;
}

void run(const Options& options) {
  const qwen::Model model = qwen::open_model(options.model);
  Benchmark benchmark(model, options);
  if (options.calibrate_only) {
    fmt::print("{}\n", describe(benchmark.rates()));
    return;
  }
  if (!options.quiet) fmt::print(stderr, "calibrated: {}\n", describe(benchmark.rates()));
  const auto report = make_report(options.format, model, benchmark.on_gpu() ? "CUDA" : "host");
  report->begin();
  for (const Case& what : cases_of(options)) {
    const std::uint32_t runs = benchmark.runs();
    command_line::ProgressBar bar(!options.quiet, "runs", runs, "run");
    const Row row = benchmark.run(what, [&](std::uint32_t done) { bar.update(done, runs); });
    bar.clear();
    report->add(row);
  }
  report->end();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto parsed = parse_options(argc, argv);
    if (const auto* help = std::get_if<std::string>(&parsed)) {
      fmt::print("{}", *help);
      return 0;
    }
    run(std::get<Options>(parsed));
    return 0;
  } catch (const command_line::UsageError& error) {
    return fail(kWrongUsage, fmt::format("{}; see --help", error.what()));
  } catch (const std::bad_alloc&) {
    return fail(kFailure, "out of host memory; choose a smaller -p, --ubatch or --vram");
  } catch (const std::exception& error) {
    return fail(kFailure, error.what());
  }
}
