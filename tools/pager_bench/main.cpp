// pager_bench: prefill and generation of a paged model, measured against what the machine allows.
#include <fmt/format.h>

#include <cstdio>

#include "benchmark.hpp"
#include "command_line/progress_bar.hpp"
#include "command_line/run_program.hpp"
#include "options.hpp"
#include "report.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::pager_bench;

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
  return command_line::run_program(
      "pager_bench", [&] { run(parse_options(argc, argv)); },
      "choose a smaller -p, --ubatch or --vram");
}
