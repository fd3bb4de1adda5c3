#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "pager/types.hpp"

namespace tensor_pager::make_gguf {

/// A file that is written front to back in large pieces. Unless close() was reached, the destructor
/// removes it: half a model is of no use. Errors throw RandomModelError.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// Zeros up to a multiple of `alignment`.
  void pad(Bytes alignment);
  /// Bytes written so far.
  Bytes size() const { return size_; }
  /// Writes what is left; only after this is the file complete.
  void close();

 private:
  void flush();
  void write_through(std::span<const std::byte> bytes);
  [[noreturn]] void fail(std::string_view what) const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::vector<std::byte> buffer_;
  Bytes size_;
};

}  // namespace tensor_pager::make_gguf
