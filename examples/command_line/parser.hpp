// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/App.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "command_line/help.hpp"
#include "command_line/option_shape.hpp"
#include "command_line/usage_error.hpp"

namespace tensor_pager::command_line {

/// The command line asks for text alone: help, the version, a manual page, a completion script.
/// what() is it.
class TextRequest : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A program's options: those that it declares, and --help, --version, --completion and --man-page,
/// which all programs have.
class Parser {
 public:
  explicit Parser(ProgramDescription program);
  Parser(const Parser&) = delete;
  Parser& operator=(const Parser&) = delete;

  /// Where options are declared; `group` is the heading of those that follow. What help and
  /// completion make of a declaration is said at option_shapes.
  CLI::App& group(const std::string& name);

  /// Another name of `option` with several letters behind one dash, which CLI11 would take for as
  /// many options: "-ub" for "--ubatch".
  void add_alias(const std::string& alias, const std::string& option);

  /// Sets what the options are bound to. Throws UsageError, or TextRequest.
  void parse(int argc, const char* const* argv);

  /// Whether it was, once options are parsed.
  bool is_given(const std::string& option) const { return app_.count(option) > 0; }

 private:
  void answer_completion(const std::string& shell) const;
  std::vector<std::string> arguments(int argc, const char* const* argv) const;
  const CLI::Option* option_with_value(const std::string& argument) const;
  void require_no_more_arguments() const;
  void require_values(const std::vector<std::string>& arguments) const;

  ProgramDescription program_;
  CLI::App app_;
  Aliases aliases_;
};

}  // namespace tensor_pager::command_line
