// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>

#include "pager/export.hpp"

namespace tensor_pager::loaders {

/// A GGUF file that cannot be used: unreadable, damaged, or not the model that it claims to be.
/// what() is one line that names the file, the field (a header field, a metadata key or a tensor),
/// its offset in the file where one is known, and what is wrong with it.
class TENSOR_PAGER_EXPORT GgufError : public std::runtime_error {
 public:
  /// `field` may be empty when the file as a whole is at fault.
  GgufError(std::filesystem::path file, std::string field, std::optional<std::uint64_t> offset,
            const std::string& problem);

  const std::filesystem::path& file() const { return file_; }
  const std::string& field() const { return field_; }
  std::optional<std::uint64_t> offset() const { return offset_; }

 private:
  std::filesystem::path file_;
  std::string field_;
  std::optional<std::uint64_t> offset_;
};

}  // namespace tensor_pager::loaders
