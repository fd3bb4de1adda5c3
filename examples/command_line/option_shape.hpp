// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/App.hpp>
#include <map>
#include <string>
#include <vector>

namespace tensor_pager::command_line {

/// Further names of options, by the name that the parser knows: "--ubatch" has "-ub".
using Aliases = std::map<std::string, std::vector<std::string>>;

/// What an option looks like to its users. Help and completion are made of it alone.
struct OptionShape {
  std::vector<std::string> names;  ///< "-m", "--model"; an argument's place has one, without dashes
  std::string group;               ///< under which help lists it
  std::string description;
  std::string placeholder;  ///< what it takes: "FILE", "SIZE|auto", "N,..."; empty: nothing
  std::vector<std::string> choices;  ///< words that it takes
  std::string default_value;         ///< empty: none
  bool positional = false;
  bool required = false;
  bool takes_value = false;
  bool takes_list = false;  ///< of values, with commas between them
  bool takes_file = false;
};

/// All options of a program, in the order of their declaration. What an option takes is read from
/// its type name, and its choices from CLI::IsMember: alternatives have "|" between them, words in
/// lower case are choices, FILE is a file's name, and ",..." makes it a list.
std::vector<OptionShape> option_shapes(const CLI::App& app, const Aliases& aliases);

}  // namespace tensor_pager::command_line
