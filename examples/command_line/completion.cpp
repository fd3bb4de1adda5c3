// SPDX-License-Identifier: Apache-2.0
#include "command_line/completion.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace tensor_pager::command_line {
namespace {

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  return fmt::format("{}", fmt::join(parts, between));
}

// In single quotes, for a shell.
std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string all_names(const std::vector<OptionShape>& options) {
  std::vector<std::string> names;
  for (const OptionShape& option : options) {
    if (!option.positional) names.insert(names.end(), option.names.begin(), option.names.end());
  }
  return joined(names, " ");
}

// What the completion function of bash does with its variables to offer the option's values.
std::string bash_values(const OptionShape& option) {
  std::string code;
  if (!option.choices.empty()) code += " words=" + in_quotes(joined(option.choices, " "));
  if (option.takes_list) code += " list=1";
  if (option.takes_file) code += " files=1";
  return code;
}

// Which argument the cursor is at, and what can be there; a program without any has its options.
std::string bash_arguments(const std::vector<OptionShape>& options) {
  std::vector<std::string> with_value;
  std::string places;
  int place = 0;
  for (const OptionShape& option : options) {
    if (option.positional)
      places += fmt::format("        {}){} ;;\n", place++, bash_values(option));
    if (!option.positional && option.takes_value) with_value.push_back(joined(option.names, "|"));
  }
  if (places.empty()) return "      words=$names\n";
  return fmt::format(R"(      local place=0 i
      for ((i = 1; i < COMP_CWORD; ++i)); do
        case ${{COMP_WORDS[i]}} in
          {})
            [[ ${{COMP_WORDS[i + 1]}} != '=' ]] || ((++i))
            ((++i))
            ;;
          -*) ;;
          *) ((++place)) ;;
        esac
      done
      case $place in
{}      esac
      [[ $cur != -* ]] || words=$names files=''
)",
                     joined(with_value, "|"), places);
}

std::string zsh_action(const OptionShape& option) {
  const std::string choices = joined(option.choices, " ");
  if (option.takes_file) return "_files";
  if (choices.empty()) return " ";
  return option.takes_list ? "_sequence compadd - " + choices : "(" + choices + ")";
}

// In the brackets of a specification.
std::string zsh_explanation(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

// Specifications of _arguments: one for each name, and a name rules out the others.
std::vector<std::string> zsh_specifications(const OptionShape& option, int place) {
  if (option.positional) {
    return {fmt::format("{}:{}:{}", place, option.names.front(), zsh_action(option))};
  }
  std::vector<std::string> specifications;
  for (const std::string& name : option.names) {
    const char* const value = !option.takes_value ? "" : name.starts_with("--") ? "=" : "+";
    std::string specification = fmt::format("({}){}{}[{}]", joined(option.names, " "), name, value,
                                            zsh_explanation(option.description));
    if (option.takes_value) {
      specification += fmt::format(":{}:{}", option.placeholder, zsh_action(option));
    }
    specifications.push_back(std::move(specification));
  }
  return specifications;
}

}  // namespace

std::string bash_completion(const std::string& program, const std::vector<OptionShape>& options) {
  std::string values;
  for (const OptionShape& option : options) {
    if (option.positional || !option.takes_value) continue;
    values += fmt::format("    {}){} ;;\n", joined(option.names, "|"), bash_values(option));
  }
  return fmt::format(R"(# shellcheck shell=bash
# Completion of {0} in bash, as "{0} --completion bash" prints it.
_{0}_completion() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} option=${{COMP_WORDS[COMP_CWORD - 1]}}
  local names={1}
  local words='' files='' list='' head=''
  # bash makes three words of --option=value.
  if [[ $cur == '=' ]]; then
    cur=''
  elif [[ $option == '=' ]]; then
    option=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  case $option in
{2}    *)
{3}      ;;
  esac
  [[ -z $list || $cur != *,* ]] || head=${{cur%,*}},
  mapfile -t COMPREPLY < <(compgen -P "$head" -W "$words" -- "${{cur#"$head"}}")
  [[ -n $files ]] || return 0
  compopt -o filenames 2>/dev/null
  mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -f -- "$cur")
}}
complete -F _{0}_completion {0}
)",
                     program, in_quotes(all_names(options)), values, bash_arguments(options));
}

std::string zsh_completion(const std::string& program, const std::vector<OptionShape>& options) {
  std::string specifications;
  int place = 0;
  for (const OptionShape& option : options) {
    if (option.positional) ++place;
    for (const std::string& specification : zsh_specifications(option, place)) {
      specifications += " \\\n    " + in_quotes(specification);
    }
  }
  return fmt::format(R"(#compdef {0}
# Completion of {0} in zsh, as "{0} --completion zsh" prints it.
_{0}() {{
  _arguments{1}
}}
# Loaded from $fpath, this file is the function's body; sourced, it only declares.
if [[ ${{funcstack[1]}} == _{0} ]]; then
  _{0} "$@"
else
  compdef _{0} {0}
fi
)",
                     program, specifications);
}

}  // namespace tensor_pager::command_line
