// SPDX-License-Identifier: Apache-2.0
// pager_bench: prefill and generation of a paged model, measured against what the machine allows.
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "benchmark.hpp"
#include "command_line/interrupt.hpp"
#include "command_line/left_out.hpp"
#include "command_line/note.hpp"
#include "command_line/progress_bar.hpp"
#include "command_line/run_program.hpp"
#include "options.hpp"
#include "qwen/error.hpp"
#include "report.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::pager_bench;
using command_line::ProgressBar;

std::string title(const Case& what, std::size_t number, std::size_t cases) {
  return fmt::format("{} of {}: {}{}", number, cases, what.prompt > 0 ? "pp" : "tg", what.tokens());
}

// Twice, so that it shows how far the rates can be relied on.
void calibrate(const Options& options) {
  const qwen::MachineRates first = measure_rates(options);
  const qwen::MachineRates second = measure_rates(options);
  fmt::print("{}\n", calibration(options.format, device_name(options), first, second));
}

// One case after another; those for which memory or context is too small are left out.
void measure_all(Benchmark& benchmark, const Options& options, Report& report) {
  const std::vector<Case> cases = cases_of(options);
  command_line::LeftOut left_out("pager_bench", cases.size());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    ProgressBar bar(!options.quiet, title(cases[i], i + 1, cases.size()),
                    1.0 * benchmark.runs() * cases[i].tokens(), "token");
    const auto progress = [&](std::size_t done, std::size_t total) {
      command_line::InterruptGuard::check();
      bar.update(done, total);
    };
    try {
      const Row row = benchmark.run(cases[i], progress);
      bar.clear();
      report.add(row);
    } catch (const qwen::Error& error) {
      bar.clear();
      left_out.add(cases[i].text(), error);
    }
  }
  left_out.require_some();
}

void run(const Options& options) {
  if (options.calibrate_only) return calibrate(options);
  const qwen::Model model = qwen::open_model(options.model, options.rope);
  Benchmark benchmark(model, options);
  if (!options.quiet)
    command_line::note(fmt::format("calibrated: {}\n", describe(benchmark.rates())));
  const auto report = make_report(options.format, model, device_name(options));
  const command_line::InterruptGuard interrupts;
  report->begin();
  try {
    measure_all(benchmark, options, *report);
  } catch (const command_line::Interrupted&) {
    report->end();  // with the rows so far
    throw;
  }
  report->end();
}

}  // namespace

int main(int argc, char** argv) {
  return command_line::run_program(
      "pager_bench", [&] { run(parse_options(argc, argv)); },
      "choose a smaller -p, --ubatch or --vram");
}
