#include "options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <utility>

namespace tensor_pager::pager_bench {
namespace {

using command_line::UsageError;

// Options as they are typed, where that differs from what they mean.
struct Typed {
  std::string device = "auto";
  std::vector<std::string> vram;
  std::vector<std::string> arenas;
  std::vector<double> link_rates;
  std::optional<std::string> page;
  std::optional<std::string> policy;
  std::optional<std::string> lookahead;
  std::string format = "md";
  bool cold = false;
};

const std::map<std::string, Format> kFormats = {
    {"md", Format::md}, {"csv", Format::csv}, {"json", Format::json}, {"jsonl", Format::jsonl}};

void add_what(CLI::App& app, Options& options, Typed& typed) {
  app.add_option("-m,--model", options.model, "GGUF model; for a split one, its first file")
      ->required()
      ->type_name("FILE");
  app.add_option("-p,--n-prompt", options.prompts, "Prompt lengths to measure; 0 is none")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("N,...");
  app.add_option("-n,--n-gen", options.generated, "Numbers of tokens to generate; 0 is none")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("N,...");
  app.add_option("-r,--repetitions", options.repetitions, "Runs of each, after one that warms up")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--cold", typed.cold,
               "Begin each prefill with nothing resident (the default; generation is warm)");
  app.add_flag("--warm", options.warm, "Begin each prefill with what the last one left resident");
  app.add_flag("--calibrate", options.calibrate_only,
               "Only measure the rates of link and arithmetic, which every row is held against");
}

void add_where(CLI::App& app, Options& options, Typed& typed) {
  app.add_option("--device", typed.device, "auto, cuda or host")
      ->check(CLI::IsMember({"auto", "cuda", "host"}))
      ->capture_default_str()
      ->type_name("KIND");
  app.add_option("--gpu", options.gpu, "Which GPU")->check(CLI::NonNegativeNumber)->type_name("N");
  app.add_option("--vram", typed.vram, "All device memory of a run (default: 90% of what is free)")
      ->delimiter(',')
      ->type_name("SIZE,...");
  app.add_option("--arena", typed.arenas,
                 "Memory for weights, instead of what --vram leaves: 2GiB, or 25% of them")
      ->delimiter(',')
      ->type_name("SIZE|PCT,...");
  app.add_option("--link-rate", typed.link_rates,
                 "GB/s that the link carries at most, to imitate a slower one; 0: all it can")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber)
      ->type_name("GB/S,...");
  app.add_option("--page", typed.page, "Bytes per page (default: by the size of the model)")
      ->type_name("SIZE");
  app.add_option("--policy", typed.policy, "lru or lookahead (default lookahead)")
      ->check(CLI::IsMember({"lru", "lookahead"}))
      ->type_name("NAME");
  app.add_option("--lookahead", typed.lookahead,
                 "How far ahead the policy knows the plan (default: a whole pass)")
      ->type_name("STEPS|pass");
  app.add_option("--ubatch", options.ubatch, "Tokens that go through a layer together (also -ub)")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
}

void add_output(CLI::App& app, Options& options, Typed& typed) {
  app.add_option("-o,--output", typed.format, "md, csv, json or jsonl")
      ->check(CLI::IsMember({"md", "csv", "json", "jsonl"}))
      ->capture_default_str()
      ->type_name("FORMAT");
  app.add_flag("-q,--quiet", options.quiet, "No progress bar, no calibration line");
}

Options complete(Options options, const Typed& typed) {
  options.device = command_line::parse_device(typed.device);
  if (!typed.vram.empty()) options.vram.clear();
  for (const std::string& size : typed.vram) {
    options.vram.emplace_back(command_line::parse_size("--vram", size));
  }
  if (!typed.arenas.empty()) options.arenas.clear();
  for (const std::string& arena : typed.arenas) {
    options.arenas.emplace_back(command_line::parse_arena(arena));
  }
  if (!typed.link_rates.empty()) options.link_rates.clear();
  for (const double rate : typed.link_rates) options.link_rates.push_back(rate * 1e9);
  if (typed.page) options.page = command_line::parse_size("--page", *typed.page);
  if (typed.page && options.page.count == 0) throw UsageError("--page must be more than 0");
  options.policy = command_line::parse_policy(typed.policy, typed.lookahead);
  options.format = kFormats.at(typed.format);
  if (options.warm && typed.cold) throw UsageError("--cold and --warm exclude one another");
  return options;
}

// "-ub" is one option to its users, but CLI11 would take it for -u -b.
std::vector<std::string> arguments(int argc, const char* const* argv) {
  std::vector<std::string> reversed;
  for (int i = argc - 1; i > 0; --i) {
    const std::string argument = argv[i];
    reversed.push_back(argument == "-ub" ? "--ubatch" : argument);
  }
  return reversed;
}

}  // namespace

std::variant<Options, std::string> parse_options(int argc, const char* const* argv) {
  Options options;
  Typed typed;
  CLI::App app(
      "Measures prefill and generation of a model whose weights are paged, for each combination "
      "of\nthe values given, against what the machine allows: bytes over the link, and "
      "operations at\nthe rate of a large product.",
      "pager_bench");
  add_what(app, options, typed);
  add_where(app, options, typed);
  add_output(app, options, typed);
  try {
    app.parse(arguments(argc, argv));
  } catch (const CLI::CallForHelp&) {
    return app.help();
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }
  return complete(std::move(options), typed);
}

}  // namespace tensor_pager::pager_bench
