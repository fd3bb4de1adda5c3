#include "output_file.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <iostream>
#include <system_error>

#include "qwen/error.hpp"

namespace tensor_pager::qwen_prefill {

OutputFile::OutputFile(const std::optional<std::filesystem::path>& path) : path_(path) {
  if (!path_ || *path_ == "-") return;
  file_.open(*path_, std::ios::binary | std::ios::trunc);
  require_good(file_);
}

void OutputFile::write(const std::function<void(std::ostream&)>& content) {
  if (!path_) return;
  std::ostream& out = *path_ == "-" ? std::cout : file_;
  content(out);
  out.flush();
  require_good(out);
}

void OutputFile::require_good(const std::ostream& out) const {
  if (out.good()) return;
  throw qwen::Error(fmt::format("{}: cannot write: {}; choose another file", path_->string(),
                                std::generic_category().message(errno)));
}

}  // namespace tensor_pager::qwen_prefill
