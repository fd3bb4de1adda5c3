// SPDX-License-Identifier: Apache-2.0
#include "programs.hpp"

#include <sstream>

namespace tensor_pager::tests {

const std::vector<Program>& programs() {
  static const std::string model_options = SOURCES "/examples/command_line/model_options.cpp";
  static const std::string device = SOURCES "/examples/command_line/device_options.cpp";
  static const std::string places = SOURCES "/examples/command_line/chosen_places.cpp";
  static const std::string positions = SOURCES "/examples/command_line/position_options.cpp";
  static const std::string sampling = SOURCES "/examples/command_line/sampling_options.cpp";
  static const std::vector<Program> all = {
      {"qwen_prefill",
       QWEN_PREFILL,
       {SOURCES "/examples/qwen_prefill", device, model_options, places, positions, sampling},
       {"-m", "none", "-p", "x"}},
      {"qwen_chat",
       QWEN_CHAT,
       {SOURCES "/examples/qwen_chat", device, places, positions, sampling},
       {"-m", "none"}},
      {"pager_bench",
       PAGER_BENCH,
       {SOURCES "/tools/pager_bench", device, model_options, positions},
       {"-m", "none"}},
      {"pager_sim", PAGER_SIM, {SOURCES "/tools/pager_sim", positions}, {"-m", "none"}},
      {"pager_stats", PAGER_STATS, {SOURCES "/tools/pager_stats"}, {"none"}},
      {"make_gguf",
       MAKE_GGUF,
       {SOURCES "/tools/make_gguf"},
       {"qwen2", "f16", "/nonexistent/m.gguf"}},
#ifdef PAGER_LINK
      {"pager_link", PAGER_LINK, {SOURCES "/tools/pager_link"}, {"none"}},
#endif
  };
  return all;
}

std::vector<ListedOption> listed_options(const std::string& help) {
  std::vector<ListedOption> options;
  std::istringstream in(help);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("  -")) continue;
    ListedOption option;
    std::istringstream words(line);
    std::string word;
    while (words >> word && word.starts_with('-')) {
      const bool more = word.ends_with(',');
      option.names.insert(more ? word.substr(0, word.size() - 1) : word);
      if (more) continue;
      // What it takes is one blank away, a description at least two.
      const std::size_t next = line.find(word) + word.size();
      option.takes_value = next + 1 < line.size() && line[next + 1] != ' ';
      break;
    }
    options.push_back(option);
  }
  return options;
}

std::set<std::string> listed_names(const std::string& help) {
  std::set<std::string> names;
  for (const ListedOption& option : listed_options(help)) {
    names.insert(option.names.begin(), option.names.end());
  }
  return names;
}

}  // namespace tensor_pager::tests
