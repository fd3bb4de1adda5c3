// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "command_line/checks.hpp"
#include "command_line/chosen_places.hpp"
#include "command_line/file_roles.hpp"
#include "command_line/parser.hpp"
#include "command_line/sampling_options.hpp"

namespace tensor_pager::qwen_prefill {
namespace {

// Options as they are typed, where that differs from what they mean.
struct Typed {
  std::optional<std::string> text;
  std::optional<std::string> file;
  std::optional<std::string> tokens;
  std::optional<std::string> lines;
  std::int64_t predict = 32;
  command_line::SamplingArguments sampling;
  command_line::ModelArguments model;
  command_line::MemoryArguments memory;
  bool no_pin_file = false;
  bool no_publish = false;
  bool measure = false;
};

void add_input(command_line::Parser& parser, Options& options, Typed& typed) {
  CLI::App& app = parser.group("Input");
  app.add_option("-m,--model", options.model, "GGUF model; for a split one, its first file")
      ->required()
      ->type_name("FILE");
  app.add_option("-p,--prompt", typed.text, "Prompt")->type_name("TEXT");
  app.add_option("-f,--file", typed.file, "Text file with the prompt; - is standard input")
      ->type_name("FILE|-");
  app.add_option("--tokens", typed.tokens,
                 "File with the prompt as token ids between blanks, as \"seq 1 512\" writes; - is "
                 "standard input")
      ->type_name("FILE|-");
  app.add_option("--prompts", typed.lines,
                 "Text file with a prompt in each line, which are continued together; - is "
                 "standard input")
      ->type_name("FILE|-");
  app.add_option("--load-session", options.load_session,
                 "Session that the prompt goes on from, with what it consists of prefilled")
      ->type_name("FILE");
  app.add_option("--save-session", options.save_session,
                 "Keep what the prompt was prefilled to, for --load-session")
      ->type_name("FILE");
  app.add_option("-n,--predict", typed.predict,
                 "Most tokens to generate after the prompt; -1: until the model ends its text, or "
                 "--ctx is full")
      ->check(command_line::not_negative_or_minus_one("until the model ends its text"))
      ->check(command_line::in_range(-1, std::numeric_limits<std::uint32_t>::max()))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--parallel", options.parallel,
                 "Texts that are generated together, each weight being read once for all: so many "
                 "continuations of the prompt, or lines of --prompts at a time")
      ->check(command_line::in_range(1, command_line::kMostParallel))
      ->default_str("1, or all lines of --prompts")
      ->type_name("N");
  parser.add_alias("-np", "--parallel");
}

void add_memory(command_line::Parser& parser, Options& options, Typed& typed) {
  CLI::App& app = parser.group("Device and memory");
  typed.model.add_device(app);
  app.add_flag("--no-pin-file", typed.no_pin_file,
               "Copy the model, to pinned memory on a GPU, instead of using the file in place");
  typed.memory.add(app);
  typed.model.add_paging(app);
  typed.model.add_placement(app);
  command_line::add_measure(app, typed.measure);
  app.add_option("-c,--ctx", options.context, "Context: prompt and generated tokens together")
      ->default_str("what they need; 4096 beyond the prompt with -n -1")
      ->type_name("N");
  typed.model.add_ubatch(parser, app);
}

void add_output(CLI::App& app, Options& options, Typed& typed) {
  app.add_option(
         "--logits", options.logits,
         "Write the prompt's logits: float32, [tokens, vocabulary]; - is stdout, and then the "
         "text goes to stderr")
      ->type_name("FILE|-");
  app.add_flag("--perplexity", options.perplexity,
               "Perplexity of the text in chunks of --ctx tokens (then 512 by default)");
  app.add_option("--stats", options.stats,
                 "Write statistics as JSON; - is stdout, and then the text goes to stderr")
      ->type_name("FILE|-");
  app.add_option("--trace", options.trace, "Write a trace for chrome://tracing or Perfetto")
      ->type_name("FILE|-");
  app.add_flag("--no-publish", typed.no_publish, "Do not let pager_stats --pid watch this run");
  app.add_flag("-q,--quiet", options.quiet, "Generated text alone: no banner, no progress bar");
}

PromptSource prompt_source(const Typed& typed) {
  const int given = int{typed.text.has_value()} + int{typed.file.has_value()} +
                    int{typed.tokens.has_value()} + int{typed.lines.has_value()};
  if (given != 1) {
    throw UsageError(fmt::format("{} of --prompt, --file, --tokens and --prompts given; give one",
                                 given == 0 ? "none" : "more than one"));
  }
  if (typed.text) return PromptText{*typed.text};
  if (typed.file) return PromptFile{*typed.file};
  if (typed.tokens) return TokensFile{*typed.tokens};
  return PromptLines{*typed.lines};
}

void require_sessions_of_one(const Options& options, bool lines) {
  if (!options.load_session && !options.save_session) return;
  if (lines) {
    throw UsageError(
        "--load-session and --save-session are of one prompt; give it with --prompt or --file");
  }
  if (options.perplexity) {
    throw UsageError(
        "--perplexity goes on from nothing; leave --load-session and --save-session "
        "out");
  }
}

// A session that is read may be replaced by what became of it.
void require_files(const Options& options, const Typed& typed) {
  using command_line::FileOfOption;
  const std::vector<FileOfOption> outputs{{"--stats", options.stats},
                                          {"--trace", options.trace},
                                          {"--logits", options.logits},
                                          {"--save-session", options.save_session}};
  command_line::require_files_of_their_own(outputs, {{"--model", options.model},
                                                     {"--file", typed.file},
                                                     {"--tokens", typed.tokens},
                                                     {"--prompts", typed.lines}});
  command_line::require_files_of_their_own({outputs.begin(), outputs.end() - 1},
                                           {{"--load-session", options.load_session}});
}

Options complete(Options options, const Typed& typed) {
  options.prompt = prompt_source(typed);
  if (typed.predict < 0) options.predict.reset();
  if (typed.predict >= 0) options.predict = static_cast<std::uint32_t>(typed.predict);
  options.sampling = typed.sampling.wishes();
  options.seed = typed.sampling.seed();
  options.pin_files = !typed.no_pin_file;
  options.publish = !typed.no_publish;
  static_cast<command_line::MemoryOptions&>(options) = typed.memory.options();
  static_cast<command_line::ModelOptions&>(options) = typed.model.options();
  options.measure = typed.measure;
  if (options.context == 0U) throw UsageError("--ctx must be at least 1");
  if (options.logits && options.perplexity) {
    throw UsageError("--logits and --perplexity exclude one another");
  }
  const bool lines = typed.lines.has_value();
  if (lines && (options.logits || options.perplexity)) {
    throw UsageError(
        "--logits and --perplexity are of one prompt; give it with --prompt or --file");
  }
  if (options.parallel && options.perplexity) {
    throw UsageError("--perplexity generates nothing; leave --parallel out");
  }
  require_sessions_of_one(options, lines);
  require_files(options, typed);
  return options;
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  Options options;
  Typed typed;
  command_line::Parser parser({
      .name = "qwen_prefill",
      .purpose =
          "Runs a Qwen model whose weights are paged through an arena smaller than they are.",
      .usage = "-m FILE (-p TEXT | -f FILE | --tokens FILE | --prompts FILE) [OPTION...]",
      .examples = {"-m model.gguf -p \"Once upon a time\" -n 64 --arena 25%",
                   "-m model.gguf -f prompt.txt -n 512 --temp 0.7 --top-k 20 --top-p 0.8 --seed 7",
                   "-m model.gguf -f prompt.txt --vram 8GiB --stats stats.json --trace trace.json",
                   "-m model.gguf -p \"A poem:\" -n 200 --temp 0.9 --parallel 4",
                   "-m model.gguf -f book.txt -n 0 --save-session book.session",
                   "-m model.gguf --load-session book.session -p \"In short:\" -n 100",
                   "-m model.gguf -f book.txt --rope-scaling yarn --rope-scale 4",
                   "-m model.gguf -f text.txt --perplexity -c 512 -q"},
  });
  add_input(parser, options, typed);
  typed.sampling.add(parser.group("Sampling, in this order"));
  add_memory(parser, options, typed);
  typed.model.add_positions(parser.group("Long contexts"));
  add_output(parser.group("Output"), options, typed);
  parser.parse(argc, argv);
  return complete(std::move(options), typed);
}

}  // namespace tensor_pager::qwen_prefill
