// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

#include "command_line/checks.hpp"
#include "command_line/parser.hpp"

namespace tensor_pager::pager_bench {
namespace {

using command_line::UsageError;

// Options as they are typed, where that differs from what they mean.
struct Typed {
  command_line::ModelArguments model;
  std::vector<std::string> vram;
  std::vector<std::string> arenas;
  std::vector<double> link_rates;
  std::string format = "md";
  bool cold = false;
};

const std::map<std::string, Format> kFormats = {
    {"md", Format::md}, {"csv", Format::csv}, {"json", Format::json}, {"jsonl", Format::jsonl}};

void add_generation(command_line::Parser& parser, Options& options) {
  CLI::App& app = parser.group("What is measured");
  app.add_option("--parallel", options.sequences,
                 "Sequences that are generated together; tokens and t/s are those of all")
      ->delimiter(',')
      ->check(command_line::in_range(1, command_line::kMostParallel))
      ->capture_default_str()
      ->type_name("N,...");
  parser.add_alias("-np", "--parallel");
  app.add_option("-d,--n-depth", options.depths,
                 "Tokens that each sequence has before generation is measured")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("N,...");
}

void add_what(command_line::Parser& parser, Options& options, Typed& typed) {
  CLI::App& app = parser.group("What is measured");
  app.add_option("-m,--model", options.model, "GGUF model; for a split one, its first file")
      ->type_name("FILE");
  app.add_option("-p,--n-prompt", options.prompts, "Prompt lengths to measure; 0 is none")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("N,...");
  app.add_option("-n,--n-gen", options.generated, "Numbers of tokens to generate; 0 is none")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("N,...");
  add_generation(parser, options);
  app.add_option("-r,--repetitions", options.repetitions, "Runs of each, after one that warms up")
      ->check(command_line::positive())
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--cold", typed.cold,
               "Begin each prefill with nothing resident (the default; generation is warm)");
  app.add_flag("--warm", options.warm, "Begin each prefill with what the last one left resident");
  app.add_flag(
      "--calibrate", options.calibrate_only,
      "Only measure what every row is held against: the rates of link, memory and arithmetic");
}

void add_memory(CLI::App& app, Typed& typed) {
  app.add_option("--vram", typed.vram, "All device memory a run may take")
      ->delimiter(',')
      ->default_str("90% of what is free")
      ->type_name("SIZE,...");
  app.add_option("--arena", typed.arenas,
                 "Memory for weights, instead of what --vram leaves: 2GiB, or 25% of them")
      ->delimiter(',')
      ->type_name("SIZE|PCT,...");
  app.add_option("--link-rate", typed.link_rates,
                 "GB/s that the link carries at most, to imitate a slower one; 0: all it can")
      ->delimiter(',')
      ->check(command_line::not_negative())
      ->default_str("0")
      ->type_name("GB/S,...");
  typed.model.add_paging(app);
  typed.model.add_placement(app);
}

void add_where(command_line::Parser& parser, Typed& typed) {
  CLI::App& app = parser.group("Device and memory");
  typed.model.add_device(app);
  add_memory(app, typed);
  typed.model.add_ubatch(parser, app);
}

void add_output(CLI::App& app, Options& options, Typed& typed) {
  app.add_option("-o,--output", typed.format, "Format of the rows")
      ->check(CLI::IsMember({"md", "csv", "json", "jsonl"}))
      ->capture_default_str()
      ->type_name("FORMAT");
  app.add_flag("-q,--quiet", options.quiet, "No progress bar, no calibration line");
}

Options complete(Options options, const Typed& typed) {
  static_cast<command_line::ModelOptions&>(options) = typed.model.options();
  if (!typed.vram.empty()) options.vram.clear();
  for (const std::string& size : typed.vram) {
    options.vram.emplace_back(command_line::parse_size("--vram", size));
  }
  if (!typed.arenas.empty()) options.arenas.clear();
  for (const std::string& arena : typed.arenas) {
    options.arenas.emplace_back(command_line::parse_arena("--arena", arena));
  }
  if (!typed.link_rates.empty()) options.link_rates.clear();
  for (const double rate : typed.link_rates) options.link_rates.push_back(rate * 1e9);
  options.format = kFormats.at(typed.format);
  if (options.model.empty() && !options.calibrate_only) throw UsageError("--model is required");
  const auto nothing = [](std::uint32_t tokens) { return tokens == 0; };
  if (!options.calibrate_only && std::ranges::all_of(options.prompts, nothing) &&
      std::ranges::all_of(options.generated, nothing)) {
    throw UsageError("neither -p nor -n asks for a token; give one of them a number");
  }
  if (options.warm && typed.cold) throw UsageError("--cold and --warm exclude one another");
  return options;
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  Options options;
  Typed typed;
  command_line::Parser parser({
      .name = "pager_bench",
      .purpose = "Measures prefill and generation of a model whose weights are paged, for each "
                 "combination\n"
                 "of the values given, against what the machine allows: bytes over the link, "
                 "weights from\n"
                 "memory, and operations at the rate of a large product.",
      .usage = "-m FILE [OPTION...] | --calibrate [OPTION...]",
      .examples = {"-m model.gguf -p 512,2048 -n 64 --vram 4GiB,8GiB",
                   "-m model.gguf -p 2048 --arena 25%,50%,100% --warm -o json",
                   "--calibrate -o json"},
  });
  add_what(parser, options, typed);
  add_where(parser, typed);
  typed.model.add_positions(parser.group("Long contexts"));
  add_output(parser.group("Output"), options, typed);
  parser.parse(argc, argv);
  return complete(std::move(options), typed);
}

}  // namespace tensor_pager::pager_bench
