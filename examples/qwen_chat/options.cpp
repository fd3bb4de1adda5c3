// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <CLI/CLI.hpp>
#include <map>
#include <utility>

#include "command_line/checks.hpp"
#include "command_line/chosen_places.hpp"
#include "command_line/parser.hpp"
#include "command_line/position_options.hpp"
#include "command_line/sampling_options.hpp"

namespace tensor_pager::qwen_chat {
namespace {

const std::map<std::string, Thinking> kThinking = {
    {"dim", Thinking::dim}, {"hide", Thinking::hide}, {"off", Thinking::off}};

struct Typed {
  command_line::DeviceArguments device;
  command_line::MemoryArguments memory;
  command_line::PlacementArguments placement;
  // Qwen's advice.
  command_line::SamplingArguments sampling{{.seed = "-1",
                                            .top_k = "20",
                                            .top_p = "0.8, or 0.95 if the model thinks",
                                            .min_p = "0",
                                            .temperature = "0.7, or 0.6 if the model thinks"}};
  command_line::PositionArguments positions;
  bool measure = false;
  std::string thinking = "dim";
};

void add_conversation(command_line::Parser& parser, Options& options, Typed& typed) {
  CLI::App& app = parser.group("Conversation");
  app.add_option("-m,--model", options.model, "GGUF model; for a split one, its first file")
      ->required()
      ->type_name("FILE");
  app.add_option("--system", options.system, "What the model is told before all questions")
      ->default_str("what its file says")
      ->type_name("TEXT");
  app.add_option("--load-session", options.session,
                 "Go on from what /save kept, which has what the model was told")
      ->excludes("--system")
      ->type_name("FILE");
  app.add_option(
         "--thinking", typed.thinking,
         "What a model thinks before it answers: shown dimmed, on a terminal; hidden; or not "
         "thought")
      ->check(CLI::IsMember({"dim", "hide", "off"}))
      ->capture_default_str()
      ->type_name("dim|hide|off");
  app.add_option("-n,--predict", options.most, "Most tokens of an answer")
      ->check(command_line::positive())
      ->default_str("until it ends")
      ->type_name("N");
  app.add_option("-c,--ctx", options.context, "Context: questions and answers together, in tokens")
      ->check(command_line::positive())
      ->default_str("8192, or the model's")
      ->type_name("N");
  app.add_flag("-q,--quiet", options.quiet, "Answers alone");
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  Options options;
  Typed typed;
  command_line::Parser parser({
      .name = "qwen_chat",
      .purpose =
          "A conversation with a Qwen model whose weights are paged through an arena smaller than\n"
          "they are. In it, /help lists what else can be asked for. From a pipe each line is a\n"
          "question, and answers alone go to stdout.",
      .usage = "-m FILE [OPTION...]",
      .examples = {"-m model.gguf --vram 8GiB", "-m model.gguf --system \"Answer in French.\"",
                   "-m model.gguf --thinking off -q < questions.txt"},
  });
  add_conversation(parser, options, typed);
  typed.sampling.add(parser.group("Sampling, in this order"));
  typed.device.add(parser.group("Device and memory"));
  typed.memory.add(parser.group("Device and memory"));
  typed.placement.add(parser.group("Device and memory"));
  command_line::add_measure(parser.group("Device and memory"), typed.measure);
  typed.positions.add(parser.group("Long contexts"));
  parser.parse(argc, argv);
  static_cast<command_line::DeviceOptions&>(options) = typed.device.options();
  static_cast<command_line::MemoryOptions&>(options) = typed.memory.options();
  static_cast<command_line::PlacementOptions&>(options) = typed.placement.options();
  options.measure = typed.measure;
  options.sampling = typed.sampling.wishes();
  options.seed = typed.sampling.seed();
  options.rope = typed.positions.overrides();
  options.thinking = kThinking.at(typed.thinking);
  return options;
}

}  // namespace tensor_pager::qwen_chat
