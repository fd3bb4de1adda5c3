// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <string>
#include <vector>

namespace tensor_pager::tests {

/// A program for users, as tests of all of them need it.
struct Program {
  std::string name;
  std::string path;
  std::vector<std::string> sources;   ///< files and folders in which its options are declared
  std::vector<std::string> required;  ///< arguments without which it runs nothing
};

/// All that this build has.
const std::vector<Program>& programs();

/// An option as help lists it.
struct ListedOption {
  std::set<std::string> names;
  bool takes_value = false;
};

/// The options in the text of --help.
std::vector<ListedOption> listed_options(const std::string& help);

/// The names of all of them.
std::set<std::string> listed_names(const std::string& help);

}  // namespace tensor_pager::tests
