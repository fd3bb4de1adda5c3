// pager_stats: what a run's statistics say, for people, scripts and Prometheus.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>

#include "stats_file.hpp"
#include "views.hpp"

namespace {

using namespace tensor_pager::pager_stats;

constexpr int kFailure = 1;
constexpr int kWrongUsage = 2;

int fail(int status, std::string message) {
  std::ranges::replace(message, '\n', ' ');  // one line, whatever a library says
  fmt::print(stderr, "pager_stats: {}\n", message);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  std::string file;
  std::optional<std::string> other;
  bool as_json = false;
  bool as_prometheus = false;
  CLI::App app("Shows the statistics that qwen_prefill --stats FILE wrote.", "pager_stats");
  app.add_option("FILE", file, "Statistics file")->required()->type_name("");
  CLI::Option* const diff =
      app.add_option("--diff", other, "Show what changed from FILE to OTHER")->type_name("OTHER");
  app.add_flag("--json", as_json, "As JSON")->excludes(diff);
  app.add_flag("--prometheus", as_prometheus, "In the text format of Prometheus")->excludes(diff);
  try {
    app.parse(argc, argv);
    if (as_json && as_prometheus)
      throw CLI::ValidationError("--json and --prometheus exclude one another");
    const auto fields = read_stats(file);
    if (other) {
      fmt::print("{}", difference(fields, read_stats(*other)));
    } else {
      fmt::print("{}", as_json ? json(fields) : as_prometheus ? prometheus(fields) : table(fields));
    }
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
