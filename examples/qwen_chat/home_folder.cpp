// SPDX-License-Identifier: Apache-2.0
#include "home_folder.hpp"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

namespace tensor_pager::qwen_chat {
namespace {

std::string home_of(const std::string& user) {
  const char* const home = std::getenv("HOME");
  if (user.empty() && home != nullptr && *home != '\0') return home;
  const passwd* const entry = user.empty() ? ::getpwuid(::getuid()) : ::getpwnam(user.c_str());
  return entry != nullptr ? entry->pw_dir : "";
}

}  // namespace

std::string with_home(std::string_view path) {
  for (const char quote : {'\'', '"'}) {
    const bool quoted = path.size() > 2 && path.front() == quote && path.back() == quote;
    if (quoted) return std::string(path.substr(1, path.size() - 2));
  }
  if (!path.starts_with('~')) return std::string(path);
  const std::string_view user = path.substr(1, path.find('/') - 1);
  const std::string home = home_of(std::string(user));
  return home.empty() ? std::string(path) : home + std::string(path.substr(1 + user.size()));
}

}  // namespace tensor_pager::qwen_chat
