// pager_stats: what a run's statistics say, or what a running pager does, for people, scripts and
// Prometheus.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <optional>
#include <string>

#include "stats_file.hpp"
#include "views.hpp"
#include "watch.hpp"

namespace {

using namespace tensor_pager::pager_stats;

constexpr int kFailure = 1;
constexpr int kWrongUsage = 2;

const std::map<std::string, PartOrder> kOrders = {{"image", PartOrder::image},
                                                  {"name", PartOrder::name},
                                                  {"size", PartOrder::size},
                                                  {"resident", PartOrder::resident},
                                                  {"copied", PartOrder::copied}};

struct Options {
  std::optional<std::string> file;
  std::optional<std::string> other;
  bool json = false;
  bool prometheus = false;
  std::optional<pid_t> process;
  bool watch = false;
  double interval = 1;
  bool tensors = false;
  std::string order = "image";
};

int fail(int status, std::string message) {
  std::ranges::replace(message, '\n', ' ');  // one line, whatever a library says
  fmt::print(stderr, "pager_stats: {}\n", message);
  return status;
}

void add_options(CLI::App& app, Options& options) {
  CLI::Option* const file = app.add_option("FILE", options.file, "Statistics file")->type_name("");
  CLI::Option* const diff =
      app.add_option("--diff", options.other, "Show what changed from FILE to OTHER")
          ->needs(file)
          ->type_name("OTHER");
  CLI::Option* const json = app.add_flag("--json", options.json, "As JSON")->excludes(diff);
  app.add_flag("--prometheus", options.prometheus, "In the text format of Prometheus")
      ->excludes(diff)
      ->excludes(json);
  CLI::Option* const pid =
      app.add_option("--pid", options.process, "Show what the pagers of a running process do")
          ->check(CLI::PositiveNumber)
          ->excludes(file)
          ->type_name("N");
  CLI::Option* const watch =
      app.add_flag("--watch", options.watch, "Again and again, until the process ends")->needs(pid);
  app.add_option("--interval", options.interval, "Seconds between two looks")
      ->needs(watch)
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str()
      ->type_name("S");
  CLI::Option* const tensors =
      app.add_flag("--tensors", options.tensors, "Residency and traffic of each tensor")
          ->needs(pid);
  app.add_option("--sort", options.order, "Order of tensors: image, name, size, resident, copied")
      ->needs(tensors)
      ->check(CLI::IsMember({"image", "name", "size", "resident", "copied"}))
      ->capture_default_str()
      ->type_name("KEY");
}

void show_process(const Options& options) {
  WatchOptions watching{.process = *options.process,
                        .repeat = options.watch,
                        .interval = std::chrono::duration_cast<std::chrono::nanoseconds>(
                            std::chrono::duration<double>(options.interval))};
  if (options.json) watching.format = LiveFormat::json;
  if (options.prometheus) watching.format = LiveFormat::prometheus;
  if (options.tensors) watching.parts = kOrders.at(options.order);
  watch(watching);
}

void show_file(const Options& options) {
  const auto fields = read_stats(*options.file);
  if (options.other) {
    fmt::print("{}", difference(fields, read_stats(*options.other)));
  } else if (options.json) {
    fmt::print("{}\n", to_json(fields).dump(2));
  } else {
    fmt::print("{}", options.prometheus ? prometheus({&fields, 1}) : table(fields));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Shows the statistics that qwen_prefill --stats FILE wrote, or what a running pager does.",
      "pager_stats");
  add_options(app, options);
  try {
    app.parse(argc, argv);
    if (!options.file && !options.process) {
      throw CLI::RequiredError("FILE or --pid");
    }
    options.process ? show_process(options) : show_file(options);
    return 0;
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    return fail(kWrongUsage, fmt::format("{}; see --help", error.what()));
  } catch (const std::exception& error) {
    return fail(kFailure, error.what());
  }
}
