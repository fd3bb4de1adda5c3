// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <CLI/CLI.hpp>
#include <map>

#include "command_line/checks.hpp"
#include "command_line/file_roles.hpp"
#include "command_line/parser.hpp"

namespace tensor_pager::pager_stats {
namespace {

const std::map<std::string, PartOrder> kOrders = {{"image", PartOrder::image},
                                                  {"name", PartOrder::name},
                                                  {"size", PartOrder::size},
                                                  {"resident", PartOrder::resident},
                                                  {"copied", PartOrder::copied}};

// Options as they are typed, where that differs from what they mean.
struct Typed {
  bool tensors = false;
  std::string order = "image";
};

void add_file(CLI::App& app, Options& options) {
  app.add_option("FILE", options.file, "Statistics file of a run that has ended")
      ->type_name("FILE");
}

void add_format(CLI::App& app, Options& options) {
  CLI::Option* const diff =
      app.add_option("--diff", options.other, "Show what changed from the first file to this one")
          ->type_name("FILE");
  CLI::Option* const json = app.add_flag("--json", options.json, "As JSON")->excludes(diff);
  app.add_flag("--prometheus", options.prometheus, "In the text format of Prometheus")
      ->excludes(diff)
      ->excludes(json);
}

void add_report(CLI::App& app, Options& options) {
  CLI::Option* const html =
      app.add_option("--html", options.page, "Write a page that shows the run over time")
          ->type_name("FILE");
  CLI::Option* const trace =
      app.add_option("--trace", options.trace, "What qwen_prefill --trace wrote in the same run")
          ->type_name("FILE");
  html->needs(trace);
  trace->needs(html);
}

void add_process(CLI::App& app, Options& options, Typed& typed) {
  CLI::Option* const pid =
      app.add_option("--pid", options.process, "Show what the pagers of this process do now")
          ->check(command_line::positive())
          ->type_name("N");
  CLI::Option* const watch =
      app.add_flag("--watch", options.watch, "Again and again, until the process ends")->needs(pid);
  app.add_option("--interval", options.interval, "Seconds between two looks")
      ->needs(watch)
      ->check(command_line::in_range(0.01, 3600))
      ->capture_default_str()
      ->type_name("S");
  CLI::Option* const tensors =
      app.add_flag("--tensors", typed.tensors, "Residency and traffic of each tensor, too")
          ->needs(pid);
  app.add_option("--sort", typed.order, "Order of the tensors")
      ->needs(tensors)
      ->check(CLI::IsMember({"image", "name", "size", "resident", "copied"}))
      ->capture_default_str()
      ->type_name("KEY");
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  Options options;
  Typed typed;
  command_line::Parser parser({
      .name = "pager_stats",
      .purpose =
          "Shows the statistics that qwen_prefill --stats FILE wrote, or what the pagers of a\n"
          "running process do.",
      .usage = "FILE [OPTION...] | --pid N [OPTION...]",
      .examples = {"stats.json", "before.json --diff after.json", "stats.json --prometheus",
                   "stats.json --trace trace.json --html report.html",
                   "--pid 1234 --watch --tensors --sort copied"},
  });
  add_file(parser.group("Arguments"), options);
  add_format(parser.group("Format"), options);
  add_report(parser.group("A report"), options);
  add_process(parser.group("A running process"), options, typed);
  parser.parse(argc, argv);
  if (options.file.has_value() == options.process.has_value()) {
    throw command_line::UsageError("give either a statistics FILE or --pid N");
  }
  if (options.other && options.process) {
    throw command_line::UsageError("--diff compares files; --pid has none");
  }
  if (options.page && options.process) {
    throw command_line::UsageError(
        "--html shows a run that has ended; --pid shows one that has not");
  }
  if (options.page && (options.other || options.json || options.prometheus)) {
    throw command_line::UsageError("--html excludes --diff, --json and --prometheus");
  }
  if (options.page) {
    command_line::require_files_of_their_own({{"--html", options.page}},
                                             {{"FILE", options.file}, {"--trace", options.trace}});
  }
  if (typed.tensors) options.parts = kOrders.at(typed.order);
  return options;
}

}  // namespace tensor_pager::pager_stats
