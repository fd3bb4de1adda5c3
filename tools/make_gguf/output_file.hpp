// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "output/replacement_file.hpp"
#include "pager/types.hpp"

namespace tensor_pager::make_gguf {

/// A file that is written front to back in large pieces, and is there once it is complete: half a
/// model is of no use. Errors throw output::OutputError.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path);

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// Zeros up to a multiple of `alignment`.
  void pad(Bytes alignment);
  /// Bytes written so far.
  Bytes size() const { return size_; }
  /// Hands on what is left.
  void flush();
  /// The file is complete: it takes its place.
  void commit();

 private:
  output::ReplacementFile file_;
  std::vector<std::byte> buffer_;
  Bytes size_;
};

}  // namespace tensor_pager::make_gguf
