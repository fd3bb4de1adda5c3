// SPDX-License-Identifier: Apache-2.0
// pager_stats: what a run's statistics say, or what a running pager does, for people, scripts and
// Prometheus.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "command_line/json.hpp"
#include "command_line/run_program.hpp"
#include "options.hpp"
#include "output/replacement_file.hpp"
#include "prometheus.hpp"
#include "report/report.hpp"
#include "stats_file.hpp"
#include "views.hpp"
#include "watch.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::pager_stats;

void show_process(const Options& options) {
  WatchOptions watching{.process = *options.process,
                        .repeat = options.watch,
                        .interval = std::chrono::duration_cast<std::chrono::nanoseconds>(
                            std::chrono::duration<double>(options.interval)),
                        .parts = options.parts};
  if (options.json) watching.format = LiveFormat::json;
  if (options.prometheus) watching.format = LiveFormat::prometheus;
  watch(watching);
}

void show_file(const Options& options) {
  if (options.page) {
    const WrittenReport report = write_report(*options.file, *options.trace, *options.page);
    // Beside the page, if that is where stdout goes.
    fmt::print(output::is_stdout(*options.page) ? stderr : stdout,
               "{}: {}; open it in a browser\n{}\n", *options.page, to_string(report.size),
               report.answer);
    return;
  }
  const auto fields = read_stats(*options.file);
  if (options.other) {
    fmt::print("{}", difference(fields, read_stats(*options.other)));
  } else if (options.json) {
    fmt::print("{}\n", command_line::to_text(to_json(fields)));
  } else {
    fmt::print("{}", options.prometheus ? prometheus({&fields, 1}) : table(fields));
  }
}

void run(const Options& options) {
  options.process ? show_process(options) : show_file(options);
}

}  // namespace

int main(int argc, char** argv) {
  return command_line::run_program("pager_stats", [&] { run(parse_options(argc, argv)); });
}
