// SPDX-License-Identifier: Apache-2.0
// make_gguf ARCH TYPE OUT: writes a valid GGUF model with random weights of real shapes, for tests
// and measurements.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command_line/checks.hpp"
#include "command_line/file_roles.hpp"
#include "command_line/interrupt.hpp"
#include "command_line/parser.hpp"
#include "command_line/progress_bar.hpp"
#include "command_line/run_program.hpp"
#include "loaders/gguf.hpp"
#include "random_model.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::make_gguf;

struct CommandLine {
  RandomModelOptions model;
  std::filesystem::path out;
  bool quiet = false;
};

// A model whose vocabulary is taken must stay as it is, each of its files.
void require_vocabulary_kept(const CommandLine& line) {
  const std::string& vocabulary = line.model.vocabulary;
  if (vocabulary.empty() || vocabulary == "bytes") return;
  std::vector<command_line::FileOfOption> inputs;
  for (const std::filesystem::path& file : loaders::GgufModel::open(vocabulary).paths()) {
    inputs.push_back({"--vocabulary", file});
  }
  for (std::uint32_t piece = 0; piece < line.model.pieces; ++piece) {
    command_line::require_files_of_their_own(
        {{"OUT", piece_path(line.out, piece, line.model.pieces)}}, inputs);
  }
}

CommandLine parse(int argc, const char* const* argv) {
  CommandLine line;
  command_line::Parser parser({
      .name = "make_gguf",
      .purpose = "Writes a valid GGUF model with random weights of real shapes, for tests and "
                 "measurements.",
      .usage = "ARCH TYPE OUT [OPTION...]",
      .examples = {"qwen2 q4_k_m model.gguf --preset 7b", "qwen3 f16 small.gguf --layers 2 --tied",
                   "qwen2 q4_k_m model.gguf --preset 0.5b --vocabulary bytes"},
  });
  CLI::App& arguments = parser.group("Arguments");
  arguments.add_option("ARCH", line.model.architecture, "Architecture")
      ->required()
      ->check(CLI::IsMember(architecture_names()));
  arguments.add_option("TYPE", line.model.type, "Type of the matrices")
      ->required()
      ->check(CLI::IsMember(type_names()));
  arguments.add_option("OUT", line.out, "File to write")->required()->type_name("FILE");
  CLI::App& options = parser.group("Options");
  options.add_option("--preset", line.model.preset, "Shapes of the model")
      ->capture_default_str()
      ->check(CLI::IsMember(preset_names()))
      ->type_name("NAME");
  options.add_option("--layers", line.model.layers, "Layers")
      ->default_str("as many as the preset has")
      ->type_name("N");
  options.add_option("--seed", line.model.seed, "Seed of the weights")
      ->capture_default_str()
      ->type_name("S");
  options.add_flag("--tied", line.model.tied, "No output matrix: the token embedding serves as it");
  options
      .add_option(
          "--vocabulary", line.model.vocabulary,
          "A token for each byte, or the vocabulary of a GGUF file, so that the model takes "
          "text; filled up to the preset's size")
      ->default_str("none: the model takes --tokens alone")
      ->type_name("bytes|FILE");
  options.add_option("--split", line.model.pieces, "Files to split the model into")
      ->capture_default_str()
      ->check(command_line::in_range(1, 65535))
      ->type_name("N");
  options.add_flag("-q,--quiet", line.quiet, "No progress bar");
  parser.parse(argc, argv);
  require_vocabulary_kept(line);
  return line;
}

// The bar begins with the file, whose size is known then.
WriteProgress progress(std::optional<command_line::ProgressBar>* bar) {
  return [bar](Bytes done, Bytes total) {
    command_line::InterruptGuard::check();
    if (bar == nullptr) return;
    if (!*bar) bar->emplace(true, "writing", static_cast<double>(total.count) / 1e6, "MB");
    (*bar)->update(done.count, total.count);
  };
}

}  // namespace

int main(int argc, char** argv) {
  return command_line::run_program("make_gguf", [&] {
    const CommandLine line = parse(argc, argv);
    const command_line::InterruptGuard interrupts;  // takes back what was begun
    std::optional<command_line::ProgressBar> bar;
    const WrittenModel written =
        write_random_model(line.out, line.model, progress(line.quiet ? nullptr : &bar));
    bar.reset();
    fmt::print("{}: {}, {} tensors\n", written.files.front().string(), to_string(written.bytes),
               written.tensors);
  });
}
