// pager_bench: prefill and generation of a paged model, measured against what the machine allows.
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "benchmark.hpp"
#include "command_line/progress_bar.hpp"
#include "command_line/run_program.hpp"
#include "options.hpp"
#include "report.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::pager_bench;
using command_line::ProgressBar;

std::string title(const Case& what, std::size_t number, std::size_t cases) {
  return fmt::format("{} of {}: {}{}", number, cases, what.prompt > 0 ? "pp" : "tg", what.tokens());
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
  const std::vector<Case> cases = cases_of(options);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Row row = [&] {
      ProgressBar bar(!options.quiet, title(cases[i], i + 1, cases.size()),
                      1.0 * benchmark.runs() * cases[i].tokens(), "token");
      return benchmark.run(cases[i],
                           [&](std::size_t done, std::size_t total) { bar.update(done, total); });
    }();
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
