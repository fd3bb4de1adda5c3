// pager_stats: what a run's statistics say, for people, scripts and Prometheus.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "command_line/parser.hpp"
#include "command_line/run_program.hpp"
#include "stats_file.hpp"
#include "views.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::pager_stats;

struct Options {
  std::string file;
  std::optional<std::string> other;
  bool json = false;
  bool prometheus = false;
};

Options parse_options(int argc, const char* const* argv) {
  Options options;
  command_line::Parser parser({
      .name = "pager_stats",
      .purpose = "Shows the statistics that qwen_prefill --stats FILE wrote.",
      .usage = "FILE [OPTION...]",
      .examples = {"stats.json", "before.json --diff after.json", "stats.json --prometheus"},
  });
  parser.group("Arguments")
      .add_option("FILE", options.file, "Statistics file")
      ->required()
      ->type_name("FILE");
  CLI::App& app = parser.group("Options");
  CLI::Option* const diff =
      app.add_option("--diff", options.other, "Show what changed from the first file to this one")
          ->type_name("FILE");
  app.add_flag("--json", options.json, "As JSON")->excludes(diff);
  app.add_flag("--prometheus", options.prometheus, "In the text format of Prometheus")
      ->excludes(diff);
  parser.parse(argc, argv);
  if (options.json && options.prometheus)
    throw command_line::UsageError("--json and --prometheus exclude one another");
  return options;
}

void run(const Options& options) {
  const auto fields = read_stats(options.file);
  if (options.other) {
    fmt::print("{}", difference(fields, read_stats(*options.other)));
  } else {
    fmt::print("{}", options.json         ? json(fields)
                     : options.prometheus ? prometheus(fields)
                                          : table(fields));
  }
}

}  // namespace

int main(int argc, char** argv) {
  return command_line::run_program("pager_stats", [&] { run(parse_options(argc, argv)); });
}
