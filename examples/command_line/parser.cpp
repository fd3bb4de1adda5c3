#include "command_line/parser.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>
#include <utility>

#include "command_line/completion.hpp"

namespace tensor_pager::command_line {

Parser::Parser(ProgramDescription program)
    : program_(std::move(program)), app_(program_.purpose, program_.name) {
  app_.set_help_flag("-h,--help", "Print this help")->group("Help");
  group("Help").add_flag_callback(
      "--version",
      [this] { throw TextRequest(program_.name + " (tensor-pager) " TENSOR_PAGER_VERSION "\n"); },
      "Print the version");
  app_.add_option_function<std::string>(
          "--completion", [this](const std::string& shell) { answer_completion(shell); },
          "Print a script that completes these options in a shell")
      ->check(CLI::IsMember({"bash", "zsh"}))
      ->type_name("SHELL");
}

CLI::App& Parser::group(const std::string& name) {
  app_.option_defaults()->group(name);
  return app_;
}

void Parser::add_alias(const std::string& alias, const std::string& option) {
  aliases_[option].push_back(alias);
}

void Parser::parse(int argc, const char* const* argv) {
  try {
    app_.parse(arguments(argc, argv));
  } catch (const CLI::CallForHelp&) {
    throw TextRequest(help_text(program_, option_shapes(app_, aliases_)));
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }
}

void Parser::answer_completion(const std::string& shell) const {
  const std::vector<OptionShape> options = option_shapes(app_, aliases_);
  throw TextRequest(shell == "bash" ? bash_completion(program_.name, options)
                                    : zsh_completion(program_.name, options));
}

// Without aliases, and from the last to the first, as CLI11 wants them.
std::vector<std::string> Parser::arguments(int argc, const char* const* argv) const {
  std::vector<std::string> result(argv + std::min(argc, 1), argv + argc);
  for (std::string& argument : result) {
    if (argument == "--") break;
    const std::string name = argument.substr(0, argument.find('='));
    for (const auto& [option, aliases] : aliases_) {
      if (std::ranges::find(aliases, name) == aliases.end()) continue;
      argument.replace(0, name.size(), option);
      break;
    }
  }
  std::ranges::reverse(result);
  return result;
}

}  // namespace tensor_pager::command_line
