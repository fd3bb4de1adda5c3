// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <utility>

#include "command_line/checks.hpp"
#include "command_line/parser.hpp"
#include "command_line/position_options.hpp"
#include "random_model.hpp"

namespace tensor_pager::pager_sim {
namespace {

// As qwen::Backend has it: more tokens would gain nothing.
constexpr std::uint32_t kHostUbatch = 512;
constexpr std::uint32_t kGpuUbatch = 8192;

// Options as they are typed, where that differs from what they mean.
struct Typed {
  command_line::PositionArguments positions;
  std::vector<std::uint32_t> generated = {0};
  std::vector<std::string> places = {"gpu"};
  std::vector<std::string> arenas = {"10%", "25%", "50%", "75%", "100%"};
  std::vector<std::string> vram;
  std::optional<std::uint32_t> ubatch;
  std::vector<double> link_rates;
  std::vector<double> arithmetic;
  std::optional<double> weights_rate;
  std::optional<double> cpu_rate;
  std::optional<double> map_microseconds;
  std::optional<std::string> page;
  std::string device = "cuda";
  std::string format = "md";
  bool cold = false;
  double tolerance = 10;
};

// One of three, which complete() looks after: CLI11's message would not say what they are.
void add_model(CLI::App& app, Options& options) {
  app.add_option("-m,--model", options.model.file, "GGUF model; for a split one, its first file")
      ->type_name("FILE");
  app.add_option("--hf-config", options.model.hf_config,
                 "Instead of a model that is there: the config.json that Hugging Face keeps beside "
                 "the weights of a Qwen2, Qwen2.5 or Qwen3 model")
      ->type_name("FILE");
  app.add_option("--preset", options.model.preset,
                 "Likewise: a size of Qwen2.5, the shapes that make_gguf has for it")
      ->check(CLI::IsMember(make_gguf::preset_names("qwen2")))
      ->type_name("NAME");
  app.add_option("--type", options.model.type, "What the matrices of such a model are stored as")
      ->check(CLI::IsMember(make_gguf::type_names()))
      ->capture_default_str()
      ->type_name("TYPE");
}

void require_one_model(const ModelSource& model, bool typed) {
  const int given = (model.file.empty() ? 0 : 1) + (model.hf_config.empty() ? 0 : 1) +
                    (model.preset.empty() ? 0 : 1);
  if (given != 1) {
    throw command_line::UsageError(
        fmt::format("{} of -m, --hf-config and --preset; give one",
                    given == 0 ? "no model is given by any" : "a model is given by several"));
  }
  if (typed && model.is_file()) {
    throw command_line::UsageError(
        "--type says what a model is stored as that is not there, but -m gives one that is; leave "
        "--type out");
  }
}

void add_what(command_line::Parser& parser, Options& options, Typed& typed) {
  CLI::App& app = parser.group("What is predicted");
  add_model(app, options);
  app.add_option("-p,--n-prompt", options.prompts, "Prompt lengths; 0 is none")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("N,...");
  app.add_option("-n,--n-gen", typed.generated,
                 "Numbers of tokens to generate after a prompt of one; 0 is none")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("N,...");
  app.add_option("--parallel", options.sequences,
                 "Sequences that are generated together, a token of each at a time")
      ->check(command_line::in_range(1, command_line::kMostParallel))
      ->capture_default_str()
      ->type_name("N");
  parser.add_alias("-np", "--parallel");
  app.add_option("--place", typed.places,
                 "Where feed-forward parts run in generation: on the device; on processors; a "
                 "share of them there; or what is predicted to be fastest")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("gpu|cpu|PCT|auto,...");
  CLI::Option* const arena =
      app.add_option("--arena", typed.arenas, "Memory for weights: 2GiB, or 25% of them")
          ->delimiter(',')
          ->capture_default_str()
          ->type_name("SIZE|PCT,...");
  app.add_option("--vram", typed.vram,
                 "All device memory a run may take, instead of --arena; of a GPU's, what its "
                 "products need beside activations is not counted")
      ->delimiter(',')
      ->excludes(arena)
      ->type_name("SIZE,...");
  app.add_option("--policy", options.policies,
                 "Which page is evicted: the one used longest ago, or the one needed last")
      ->delimiter(',')
      ->check(CLI::IsMember({"lru", "lookahead"}))
      ->capture_default_str()
      ->type_name("NAME,...");
  app.add_option("--ubatch", typed.ubatch, "Tokens that go through a layer together")
      ->check(command_line::positive())
      ->default_str("8192; with --device host, 512")
      ->type_name("N");
  parser.add_alias("-ub", "--ubatch");
  app.add_option("--passes", options.passes, "Passes that are counted with --warm")
      ->check(command_line::positive())
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--cold", typed.cold, "One pass that begins with nothing resident (the default)");
  app.add_flag("--warm", options.warm, "Passes that follow two which are not counted");
}

void add_machine(CLI::App& app, Options& options, Typed& typed) {
  app.add_option("--machine", options.machine,
                 "Whose rates: an H200 as it was measured; this machine, measured now; or what "
                 "pager_bench -o jsonl or --calibrate -o json wrote to a file. The options below "
                 "replace one of them each")
      ->default_str("h200; with --device host, this")
      ->type_name("h200|this|FILE");
  app.add_option("--link-rate", typed.link_rates, "GB/s of the link")
      ->delimiter(',')
      ->default_str("the machine's")
      ->check(command_line::positive())
      ->type_name("GB/S,...");
  app.add_option("--arithmetic", typed.arithmetic,
                 "TFLOP/s of whole steps; pager_bench with everything resident tells them")
      ->delimiter(',')
      ->default_str("the machine's")
      ->check(command_line::positive())
      ->type_name("TFLOP/S,...");
  app.add_option("--weights-rate", typed.weights_rate,
                 "GB/s at which a step also reads its weights; in generation, that the device "
                 "reads them with")
      ->check(command_line::positive())
      ->default_str("the machine's")
      ->type_name("GB/S");
  app.add_option("--cpu-rate", typed.cpu_rate,
                 "GB/s of weights that processors read in generation while nothing is copied")
      ->check(command_line::positive())
      ->default_str("the machine's")
      ->type_name("GB/S");
  app.add_option("--map-time", typed.map_microseconds,
                 "Microseconds to map a page; on the host device, beside what its size takes")
      ->check(command_line::not_negative())
      ->default_str("the machine's")
      ->type_name("US");
  app.add_option("--page", typed.page, "Bytes per page: 2MiB, say")
      ->default_str("by the size of the model")
      ->type_name("SIZE");
  app.add_option("--device", typed.device, "Whose pages: cuda (from 2 MiB on) or host (4 KiB)")
      ->check(CLI::IsMember({"cuda", "host"}))
      ->capture_default_str()
      ->type_name("KIND");
}

void add_comparison(CLI::App& app, Options& options, Typed& typed) {
  app.add_option("--against", options.against,
                 "Predict what pager_bench -o jsonl measured, with rates fitted to its rows with "
                 "everything resident; prompts, arenas, pages, places and links are the file's")
      ->type_name("FILE");
  app.add_option("--tolerance", typed.tolerance,
                 "Percent by which predictions may be off; beyond it the exit status is 1")
      ->check(command_line::not_negative())
      ->capture_default_str()
      ->type_name("PCT");
}

void add_output(CLI::App& app, Options& options, Typed& typed) {
  app.add_option("-o,--output", typed.format, "Format of the rows")
      ->check(CLI::IsMember({"md", "json"}))
      ->capture_default_str()
      ->type_name("FORMAT");
  app.add_flag("-q,--quiet", options.quiet, "No progress bar");
}

Options complete(Options options, const Typed& typed) {
  for (const std::string& arena : typed.arenas) {
    options.arenas.push_back(command_line::parse_arena("--arena", arena));
  }
  for (const std::string& vram : typed.vram) {
    options.vram.push_back(command_line::parse_size("--vram", vram));
  }
  for (const double rate : typed.link_rates) options.link_rates.push_back(rate * 1e9);
  for (const double rate : typed.arithmetic) options.arithmetic.push_back(rate * 1e12);
  options.tolerance = typed.tolerance / 100;
  if (typed.weights_rate) options.weights_rate = *typed.weights_rate * 1e9;
  if (typed.cpu_rate) options.cpu_rate = *typed.cpu_rate * 1e9;
  std::erase(options.prompts, 0U);
  for (const std::uint32_t tokens : typed.generated) {
    if (tokens > 0) options.generated.push_back(tokens);
  }
  for (const std::string& place : typed.places) {
    options.places.push_back(command_line::parse_place(place));
  }
  if (typed.map_microseconds) options.map_seconds = *typed.map_microseconds * 1e-6;
  if (typed.page) options.page = command_line::parse_size("--page", *typed.page);
  options.rope = typed.positions.overrides();
  options.host = typed.device == "host";
  options.granularity = options.host ? KiB(4) : MiB(2);
  options.ubatch = typed.ubatch.value_or(options.host ? kHostUbatch : kGpuUbatch);
  if (typed.page &&
      (options.page.count == 0 || options.page.count % options.granularity.count != 0)) {
    throw command_line::UsageError(fmt::format("--page {} is not a multiple of {}; give one",
                                               *typed.page, to_string(options.granularity)));
  }
  if (options.machine.empty()) options.machine = options.host ? "this" : "h200";
  options.format = typed.format == "json" ? Format::json : Format::md;
  if (options.warm && typed.cold) {
    throw command_line::UsageError("--cold and --warm exclude one another");
  }
  return options;
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  Options options;
  Typed typed;
  command_line::Parser parser({
      .name = "pager_sim",
      .purpose =
          "Predicts prefills and generation of a paged model without a GPU: runs the pager's own\n"
          "decisions for each combination of the values given against a link, a device and\n"
          "processors of the rates given.",
      .usage = "-m FILE [OPTION...] | --hf-config FILE | --preset NAME [--type TYPE] [OPTION...]",
      .examples = {"-m model.gguf -p 2048 --arena 25%,50%,100% --link-rate 12,25 --arithmetic 100",
                   "--preset 32b --type q4_k_m -p 512 -n 64 --vram 8GiB,12GiB --link-rate 12",
                   "--hf-config config.json --machine bench.json -n 64 --arena 6GiB",
                   "-m model.gguf -p 0 -n 64 --arena 2GiB,8GiB --place gpu,auto",
                   "-m model.gguf --policy lru,lookahead --warm -o json",
                   "-m model.gguf --device host --machine bench.jsonl --arena 10%,50%",
                   "-m model.gguf --against bench.jsonl"},
  });
  add_what(parser, options, typed);
  add_machine(parser.group("Machine"), options, typed);
  typed.positions.add(parser.group("Long contexts"));
  add_comparison(parser.group("Comparison"), options, typed);
  add_output(parser.group("Output"), options, typed);
  parser.parse(argc, argv);
  require_one_model(options.model, parser.is_given("--type"));
  return complete(std::move(options), typed);
}

}  // namespace tensor_pager::pager_sim
