// SPDX-License-Identifier: Apache-2.0
#include "loaders/gguf_error.hpp"

#include <fmt/format.h>

#include <utility>

#include "loaders/printable.hpp"

namespace tensor_pager::loaders {
namespace {

std::string describe(const std::filesystem::path& file, const std::string& field,
                     std::optional<std::uint64_t> offset, const std::string& problem) {
  std::string text = file.string();
  if (!field.empty()) text += fmt::format(": {}", field);
  if (offset) text += fmt::format(" (offset {})", *offset);
  return printable(text + ": " + problem);
}

}  // namespace

GgufError::GgufError(std::filesystem::path file, std::string field,
                     std::optional<std::uint64_t> offset, const std::string& problem)
    : std::runtime_error(describe(file, field, offset, problem)),
      file_(std::move(file)),
      field_(std::move(field)),
      offset_(offset) {}

}  // namespace tensor_pager::loaders
