// make_gguf ARCH TYPE OUT: writes a valid GGUF model with random weights of real shapes, for tests
// and measurements.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "random_model.hpp"

namespace {

using tensor_pager::Bytes;
using namespace tensor_pager::make_gguf;

struct CommandLine {
  RandomModelOptions model;
  std::filesystem::path out;
};

void declare(CLI::App& app, CommandLine& line) {
  app.add_option("arch", line.model.architecture, "Architecture")
      ->required()
      ->check(CLI::IsMember(architecture_names()));
  app.add_option("type", line.model.type, "Type of the matrices")
      ->required()
      ->check(CLI::IsMember(type_names()));
  app.add_option("out", line.out, "File to write")->required();
  app.add_option("--preset", line.model.preset, "Shapes")
      ->capture_default_str()
      ->check(CLI::IsMember(preset_names()));
  app.add_option("--layers", line.model.layers, "Layers, instead of as many as the preset has");
  app.add_option("--seed", line.model.seed, "Seed of the weights")->capture_default_str();
  app.add_flag("--tied", line.model.tied, "No output matrix: the token embedding serves as it");
  app.add_option("--split", line.model.pieces, "Files to split the model into")
      ->capture_default_str()
      ->check(CLI::Range(1, 65535));
}

// A line on the terminal that is rewritten as the file grows; nothing where nobody watches.
WriteProgress progress_line() {
  if (::isatty(STDERR_FILENO) == 0) return {};
  return [percent = std::uint64_t{101}](Bytes done, Bytes total) mutable {
    const std::uint64_t now = done.count * 100 / total.count;
    if (now == percent) return;
    percent = now;
    fmt::print(stderr, "\rwriting {:3} % of {}{}", now, to_string(total), now == 100 ? "\n" : "");
    std::fflush(stderr);
  };
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Writes a valid GGUF model with random weights of real shapes");
  CommandLine line;
  declare(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    const WrittenModel written = write_random_model(line.out, line.model, progress_line());
    fmt::print("{}: {}, {} tensors\n", written.files.front().string(), to_string(written.bytes),
               written.tensors);
  } catch (const std::exception& error) {
    fmt::print(stderr, "make_gguf: {}\n", error.what());
    return 1;
  }
}
