// SPDX-License-Identifier: Apache-2.0
#include "browser.hpp"

#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include "../temporary_directory.hpp"
#include "child_process.hpp"

namespace tensor_pager::tests {
namespace {

// What stands between two marks, from `at` on; `at` moves behind the second.
std::string between(const std::string& text, const std::string& begin, const std::string& end,
                    std::size_t& at) {
  const std::size_t from = text.find(begin, at);
  const std::size_t to = from == std::string::npos ? from : text.find(end, from + begin.size());
  if (to == std::string::npos) {
    at = to;
    return "";
  }
  at = to + end.size();
  return text.substr(from + begin.size(), to - from - begin.size());
}

}  // namespace

std::string OpenedPage::root_attribute(const std::string& name) const {
  const std::string root = dom.substr(0, dom.find('>', dom.find("<html")));
  std::size_t at = 0;
  return between(root, " " + name + "=\"", "\"", at);
}

std::multimap<std::string, std::pair<std::string, std::string>> OpenedPage::fields() const {
  std::multimap<std::string, std::pair<std::string, std::string>> fields;
  // The scripts have the attribute's name, too, but not as markup.
  for (std::size_t at = 0; at != std::string::npos;) {
    const std::string field = between(dom, " data-field=\"", "\"", at);
    if (at == std::string::npos) break;
    const std::string value = between(dom, " data-value=\"", "\"", at);
    const std::string text = between(dom, ">", "<", at);
    fields.insert({field, {value, text}});
    --at;  // the element's end may begin the next one
  }
  return fields;
}

std::string find_browser() {
  const char* const path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    for (const char* name : {"chromium", "chromium-browser", "google-chrome"}) {
      const std::string program = folder + "/" + name;
      // A package may be a stub that only says where to get it.
      if (::access(program.c_str(), X_OK) == 0 && run_process(program, {"--version"}).status == 0) {
        return program;
      }
    }
  }
  return "";
}

OpenedPage open_page(const std::string& browser, const std::filesystem::path& page) {
  const TemporaryDirectory profile;
  const ProcessResult run = run_process(
      browser, {"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--user-data-dir=" + (profile / "profile").string(), "--no-first-run",
                "--enable-logging=stderr", "--dump-dom", "file://" + page.string()});
  if (run.status != 0) throw std::runtime_error("the browser failed: " + run.err);
  OpenedPage opened{run.out, {}};
  std::istringstream lines(run.err);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(":CONSOLE") != std::string::npos) opened.console.push_back(line);
  }
  return opened;
}

}  // namespace tensor_pager::tests
