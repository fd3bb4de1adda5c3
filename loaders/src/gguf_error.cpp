#include "loaders/gguf_error.hpp"

#include <fmt/format.h>

#include <utility>

namespace tensor_pager::loaders {
namespace {

// Names come from hostile files: control characters would break the promise of one line (or drive
// the terminal).
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

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
