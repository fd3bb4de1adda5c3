// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace tensor_pager::tests {

/// A page as a browser shows it, once its scripts have run.
struct OpenedPage {
  std::string dom;  ///< serialised
  /// Lines that scripts wrote to the console, errors that were not caught among them.
  std::vector<std::string> console;

  /// What the attribute `name` of the root element says; nothing if there is none.
  std::string root_attribute(const std::string& name) const;
  /// Of each element with data-field: the data-value, and the text if it has no elements within.
  std::multimap<std::string, std::pair<std::string, std::string>> fields() const;
};

/// The path of a Chromium that runs here, or nothing.
std::string find_browser();

/// Opens a file in a Chromium without a window. Throws std::runtime_error if it ends in failure.
OpenedPage open_page(const std::string& browser, const std::filesystem::path& page);

}  // namespace tensor_pager::tests
