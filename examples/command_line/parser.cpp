// SPDX-License-Identifier: Apache-2.0
#include "command_line/parser.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>
#include <utility>

#include "command_line/completion.hpp"
#include "command_line/man_page.hpp"
#include "pager/version.hpp"

namespace tensor_pager::command_line {
namespace {

[[noreturn]] void throw_without_value(const std::string& option) {
  throw UsageError(option + " has no value; give one");
}

}  // namespace

Parser::Parser(ProgramDescription program)
    : program_(std::move(program)), app_(program_.purpose, program_.name) {
  app_.set_help_flag("-h,--help", "Print this help")->group("Help");
  group("Help").add_flag_callback(
      "--version",
      [this] { throw TextRequest(program_.name + " (tensor-pager) " + version() + "\n"); },
      "Print the version");
  app_.add_option_function<std::string>(
          "--completion", [this](const std::string& shell) { answer_completion(shell); },
          "Print a script that completes these options in a shell")
      ->check(CLI::IsMember({"bash", "zsh"}))
      ->type_name("SHELL");
  app_.add_flag_callback(
      "--man-page",
      [this] { throw TextRequest(man_page(program_, option_shapes(app_, aliases_))); },
      "Print this help as a manual page, for man -l -");
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
    std::vector<std::string> all = arguments(argc, argv);
    require_values(all);
    std::ranges::reverse(all);  // as CLI11 wants them
    app_.parse(std::move(all));
  } catch (const CLI::CallForHelp&) {
    throw TextRequest(help_text(program_, option_shapes(app_, aliases_)));
  } catch (const CLI::ParseError& error) {
    const auto kind = static_cast<CLI::ExitCodes>(error.get_exit_code());
    if (kind == CLI::ExitCodes::RequiredError || kind == CLI::ExitCodes::ExtrasError) {
      require_no_more_arguments();
    }
    throw UsageError(error.what());
  }
}

// CLI11 names those that it does not know last, after what is missing, and in reverse.
void Parser::require_no_more_arguments() const {
  const std::vector<std::string> more = app_.remaining();
  if (more.empty()) return;
  throw UsageError(
      fmt::format("{} not expected: {}",
                  more.size() == 1 ? "The following argument was" : "The following arguments were",
                  fmt::join(more, " ")));
}

void Parser::answer_completion(const std::string& shell) const {
  const std::vector<OptionShape> options = option_shapes(app_, aliases_);
  throw TextRequest(shell == "bash" ? bash_completion(program_.name, options)
                                    : zsh_completion(program_.name, options));
}

// Without aliases.
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
  return result;
}

// The option that an argument names and that takes a value, or nullptr.
const CLI::Option* Parser::option_with_value(const std::string& argument) const {
  if (!argument.starts_with('-')) return nullptr;
  const CLI::Option* const option = app_.get_option_no_throw(argument);
  return option != nullptr && option->get_items_expected_min() > 0 ? option : nullptr;
}

// Variables that are not set and commands that print nothing leave values out. CLI11 takes what
// follows for the value, and then complains of that ("--pid $(pgrep -n nobody) --watch"), or uses
// it ("--stats= -q"); an empty value it takes for the number 0.
void Parser::require_values(const std::vector<std::string>& arguments) const {
  for (std::size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    if (arguments[i].empty()) {
      throw UsageError("an argument is empty; give it a value, or leave it out");
    }
    if (arguments[i].starts_with("--") && arguments[i].ends_with('=')) {
      const std::string name = arguments[i].substr(0, arguments[i].size() - 1);
      if (option_with_value(name) != nullptr) throw_without_value(name);
    }
    const CLI::Option* const option = option_with_value(arguments[i]);
    if (option == nullptr) continue;
    if (i + 1 == arguments.size()) throw_without_value(option->get_name());
    const std::string& next = arguments[++i];
    if (next.empty() && option->get_type_name() != "TEXT") throw_without_value(option->get_name());
    if (!next.starts_with('-') || app_.get_option_no_throw(next) == nullptr) continue;
    throw UsageError(
        fmt::format("{} has no value: the option {} follows; give one, or {}={} if that is it",
                    option->get_name(), next, option->get_name(), next));
  }
}

}  // namespace tensor_pager::command_line
