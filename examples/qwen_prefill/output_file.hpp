#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <iosfwd>
#include <optional>

namespace tensor_pager::qwen_prefill {

/// A file that is written at the end of a run, but opened at its beginning: a name that cannot be
/// written should not be noticed only then.
class OutputFile {
 public:
  /// Nothing: write does nothing. "-" is stdout. Throws Error if the file cannot be created.
  explicit OutputFile(const std::optional<std::filesystem::path>& path);

  /// Throws Error if the file cannot be written.
  void write(const std::function<void(std::ostream&)>& content);

 private:
  void require_good(const std::ostream& out) const;

  std::optional<std::filesystem::path> path_;
  std::ofstream file_;
};

}  // namespace tensor_pager::qwen_prefill
